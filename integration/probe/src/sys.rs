// SPDX-License-Identifier: Apache-2.0
//! System calls by number, with arguments whose memory is known to live.

use std::ffi::CStr;

use crate::errno::Errno;

/// One argument of a system call.
pub enum Arg<'a> {
    /// A number, a descriptor, a null pointer.
    Int(u64),
    /// A NUL-terminated string.
    Str(&'a CStr),
    /// Memory that the kernel reads.
    In(&'a [u8]),
    /// Memory that the kernel writes, or reads and writes.
    Out(&'a mut [u8]),
    /// A structure made of 64-bit words that the kernel reads.
    Words(&'a [u64]),
}

impl From<i32> for Arg<'_> {
    fn from(value: i32) -> Self {
        // Sign-extended: AT_FDCWD and -1 are negative.
        Arg::Int(i64::from(value) as u64)
    }
}

impl From<u32> for Arg<'_> {
    fn from(value: u32) -> Self {
        Arg::Int(u64::from(value))
    }
}

impl From<u64> for Arg<'_> {
    fn from(value: u64) -> Self {
        Arg::Int(value)
    }
}

impl From<usize> for Arg<'_> {
    fn from(value: usize) -> Self {
        Arg::Int(value as u64)
    }
}

impl<'a> From<&'a CStr> for Arg<'a> {
    fn from(value: &'a CStr) -> Self {
        Arg::Str(value)
    }
}

impl<'a> From<&'a std::ffi::CString> for Arg<'a> {
    fn from(value: &'a std::ffi::CString) -> Self {
        Arg::Str(value)
    }
}

impl<'a> From<&'a [u8]> for Arg<'a> {
    fn from(value: &'a [u8]) -> Self {
        Arg::In(value)
    }
}

impl<'a> From<&'a mut [u8]> for Arg<'a> {
    fn from(value: &'a mut [u8]) -> Self {
        Arg::Out(value)
    }
}

impl<'a> From<&'a [u64]> for Arg<'a> {
    fn from(value: &'a [u64]) -> Self {
        Arg::Words(value)
    }
}

/// Makes system call `number`. Callers give lengths that fit the buffers they pass.
pub fn call(number: libc::c_long, arguments: &mut [Arg]) -> Result<i64, Errno> {
    let mut words = [0u64; 6];
    for (word, argument) in words.iter_mut().zip(arguments.iter_mut()) {
        *word = match argument {
            Arg::Int(value) => *value,
            Arg::Str(text) => text.as_ptr() as u64,
            Arg::In(bytes) => bytes.as_ptr() as u64,
            Arg::Out(bytes) => bytes.as_mut_ptr() as u64,
            Arg::Words(words) => words.as_ptr() as u64,
        };
    }
    // SAFETY: every pointer comes from a borrow that outlives the call; the actions pass lengths of those borrows.
    let result = unsafe {
        libc::syscall(
            number, words[0], words[1], words[2], words[3], words[4], words[5],
        )
    };
    if result == -1 {
        Err(Errno::last())
    } else {
        Ok(result)
    }
}

/// `sys!(SYS_name, argument...)`: [`call`] with each argument turned into an [`Arg`].
macro_rules! sys {
    ($number:ident $(, $argument:expr)* $(,)?) => {
        $crate::sys::call(libc::$number, &mut [$($crate::sys::Arg::from($argument)),*])
    };
}
pub(crate) use sys;
