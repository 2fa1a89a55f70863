// SPDX-License-Identifier: Apache-2.0
//! Writes the CustomResourceDefinitions of the policies into a directory (deploy/crds).

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: varmor-crdgen DIRECTORY");
        std::process::exit(2);
    };
    std::fs::create_dir_all(&directory)?;
    let schema = varmor_policy::schema::crds().into_iter();
    for file in schema.chain(varmor_policy::schema::internal_crds()) {
        std::fs::write(directory.join(&file.name), &file.yaml)?;
        println!("{}", directory.join(&file.name).display());
    }
    Ok(())
}
