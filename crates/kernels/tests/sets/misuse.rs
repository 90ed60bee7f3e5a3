//! Misuse is refused by name, before any kernel runs.

use onebit_format::Layout;
use onebit_kernels::{F32Rows, I8Rows, Input, KernelError, Kernels, TileMut};

use crate::common::{Matrix, Random, sets};

fn message(f: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let panic = std::panic::catch_unwind(f).expect_err("should have panicked");
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().expect("text")).to_owned(),
    }
}

fn multiply(layout: Layout, stride: usize, tokens: usize, width: usize, float: bool) {
    let matrix = Matrix::random(layout, 8, 100, &mut Random(1));
    let (q, x) = (vec![0i8; tokens * stride], vec![0f32; tokens * stride]);
    let (scale, sum) = (vec![1.0; tokens], vec![0; tokens]);
    let x = match float {
        true => Input::F32(F32Rows::new(&x, stride, tokens)),
        false => Input::I8(I8Rows::new(&q, stride, &scale, &sum)),
    };
    let mut out = vec![0.0; 2 * width];
    sets()[0].matmul(
        &matrix.view(),
        2..8,
        x,
        &mut TileMut::whole(&mut out, 2, width),
    );
}

#[test]
fn shapes_are_checked() {
    let short = message(|| multiply(Layout::T2, 255, 2, 6, false));
    assert!(
        short.contains("256 padded columns, activations 255 apart"),
        "{short}"
    );
    let tokens = message(|| multiply(Layout::T2, 256, 3, 6, false));
    assert!(tokens.contains("output rows and tokens"), "{tokens}");
    let width = message(|| multiply(Layout::T2, 256, 2, 7, false));
    assert!(width.contains("output columns and weight rows"), "{width}");
    let kind = message(|| multiply(Layout::F32, 256, 2, 6, false));
    assert!(kind.contains("f32.r1k16 has no integer sums"), "{kind}");
}

#[test]
fn activations_are_checked() {
    let short = message(|| _ = I8Rows::new(&[0; 511], 256, &[1.0; 2], &[0; 2]));
    assert!(short.contains("512 int8 activations in 511"), "{short}");
    let sums = message(|| _ = I8Rows::new(&[0; 512], 256, &[1.0; 2], &[0; 1]));
    assert!(sums.contains("one scale and one sum per token"), "{sums}");
    let floats = message(|| _ = F32Rows::new(&[0.0; 31], 16, 2));
    assert!(floats.contains("32 f32 activations in 31"), "{floats}");
}

#[test]
fn names() {
    assert_eq!(Kernels::available()[0].name(), "scalar");
    assert_eq!(
        Kernels::best().name(),
        Kernels::available().last().unwrap().name()
    );
    for set in Kernels::available() {
        assert_eq!(Kernels::by_name(set.name()).unwrap().name(), set.name());
        assert!(Kernels::all_names().contains(&set.name()));
        assert_eq!(Kernels::why_unavailable(set.name()), None);
    }
    let error = Kernels::by_name("abacus").unwrap_err();
    assert!(matches!(error, KernelError::Unknown { .. }));
    assert!(
        error.to_string().contains("scalar, avx2, avx512"),
        "{error}"
    );
}
