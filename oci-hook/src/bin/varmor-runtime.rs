// SPDX-License-Identifier: Apache-2.0
//! `varmor-runtime`: the runtime wrapper. See [`varmor_oci_hook::runtime`].

fn main() {
    varmor_oci_hook::refuse_on_panic("varmor-runtime");
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let error = varmor_oci_hook::runtime::run(&arguments);
    varmor_oci_hook::say(&format!("varmor-runtime: {error}"));
    std::process::exit(1);
}
