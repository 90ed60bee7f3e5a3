//! Finds the packed demo model, so that a tree without it still builds.

use std::path::Path;

const DEMO: &str = "../../fixtures/demo/demo.onebit";

fn main() {
    println!("cargo::rerun-if-changed={DEMO}");
    println!("cargo::rustc-check-cfg=cfg(demo_model)");
    let path = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join(DEMO);
    if path.is_file() {
        println!("cargo::rustc-cfg=demo_model");
    }
}
