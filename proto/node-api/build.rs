// SPDX-License-Identifier: Apache-2.0
//! Generates the messages and the ttrpc service of the node API from `proto/node.proto`, in Rust alone (no protoc).

use std::path::PathBuf;

use ttrpc_codegen::{Codegen, Customize};

fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-changed=proto/node.proto");
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(
        std::env::var_os("OUT_DIR").ok_or_else(|| std::io::Error::other("OUT_DIR is not set"))?,
    );
    Codegen::new()
        .out_dir(&out)
        .input("proto/node.proto")
        .include("proto")
        .rust_protobuf()
        .customize(Customize {
            async_all: true,
            ..Default::default()
        })
        .run()?;
    // The generated mod.rs begins with an inner attribute and so cannot be included.
    std::fs::write(
        out.join("modules.rs"),
        "pub mod node;\npub mod node_ttrpc;\n",
    )
}
