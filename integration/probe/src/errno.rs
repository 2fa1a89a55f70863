// SPDX-License-Identifier: Apache-2.0
//! Error numbers by name.

/// What a system call left in `errno`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

macro_rules! names {
    ($($name:ident)*) => {
        const NAMES: &[(i32, &str)] = &[$((libc::$name, stringify!($name))),*];
    };
}

names! {
    E2BIG EACCES EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EAGAIN EALREADY EBADF EBUSY ECHILD ECONNREFUSED ECONNRESET
    EDESTADDRREQ EDOM EDQUOT EEXIST EFAULT EFBIG EHOSTUNREACH EINPROGRESS EINTR EINVAL EIO EISCONN EISDIR ELOOP EMFILE
    EMLINK EMSGSIZE ENAMETOOLONG ENETDOWN ENETUNREACH ENFILE ENODATA ENODEV ENOENT ENOEXEC ENOKEY ENOMEM ENOPROTOOPT ENOSPC
    ENOSYS ENOTCONN ENOTDIR ENOTEMPTY ENOTSOCK ENOTTY ENXIO EOPNOTSUPP EOVERFLOW EPERM EPIPE EPROTONOSUPPORT EPROTOTYPE
    ERANGE EROFS ESOCKTNOSUPPORT ESPIPE ESRCH ESTALE ETIMEDOUT ETXTBSY EUSERS EXDEV EBADFD ECANCELED ELIBBAD
}

impl Errno {
    /// The current thread's.
    pub fn last() -> Self {
        Self(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }

    /// The symbolic name, or the number where this table has none.
    pub fn name(self) -> String {
        match NAMES.iter().find(|(number, _)| *number == self.0) {
            Some((_, name)) => (*name).to_string(),
            None => format!("E#{}", self.0),
        }
    }

    /// What strerror(3) says, without the "(os error N)" that Rust adds.
    pub fn text(self) -> String {
        let text = std::io::Error::from_raw_os_error(self.0).to_string();
        match text.rfind(" (os error") {
            Some(end) => text[..end].to_string(),
            None => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_refusals_have_the_texts_that_scenarios_look_for() {
        assert_eq!(Errno(libc::EACCES).text(), "Permission denied");
        assert_eq!(Errno(libc::EPERM).text(), "Operation not permitted");
        assert_eq!(Errno(libc::EPERM).name(), "EPERM");
        assert_eq!(Errno(4095).name(), "E#4095");
    }
}
