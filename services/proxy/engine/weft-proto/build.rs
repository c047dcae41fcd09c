//! Compiles the shared `.proto` files with protox, so no protoc binary is needed.
use std::{env, error::Error, path::PathBuf};

const ROOTS: [&str; 4] = [
    "weft_proto/weft/engine.proto",
    "weft_proto/weft/decision.proto",
    "weft_proto/linkerd/tap.proto",
    "weft_proto/linkerd/transport.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let include = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../../../proto/src");
    println!("cargo:rerun-if-changed={}", include.join("weft_proto").display());
    let files = protox::compile(ROOTS, [&include])?;
    prost_build::Config::new().include_file("all.rs").compile_fds(files)?;
    Ok(())
}
