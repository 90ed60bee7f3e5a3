//! The model built into the program.

use onebit_format::PackedFile;

/// The packed demo model, aligned as the format demands.
#[cfg(demo_model)]
fn bytes() -> &'static [u8] {
    #[repr(C, align(64))]
    struct Aligned<T: ?Sized>(T);
    // Not from the build script: what that has found stays when the folder is moved.
    static DEMO: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/demo/demo.onebit"
    )));
    &DEMO.0
}

/// Opens it.
#[cfg(demo_model)]
pub(super) fn open() -> anyhow::Result<PackedFile> {
    Ok(PackedFile::from_static(bytes())?)
}

/// Says that there is none.
#[cfg(not(demo_model))]
pub(super) fn open() -> anyhow::Result<PackedFile> {
    Err(crate::exit::bad_model(
        "this program was built without the demo model: name a MODEL",
    ))
}
