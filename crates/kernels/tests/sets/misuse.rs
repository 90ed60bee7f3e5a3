//! Misuse is refused by name, before any kernel runs.

use onebit_format::Layout;
use onebit_kernels::{BitRows, F32Rows, I8GroupRows, I8Rows, Input, KernelError, Kernels, TileMut};

use crate::chosen::sets;
use crate::common::{Matrix, Random};

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
fn sign_activations_are_checked() {
    let short = message(|| _ = BitRows::new(&[0; 127], 64, &[1.0; 2]));
    assert!(short.contains("128 bytes of signs in 127"), "{short}");
    let ragged = message(|| _ = I8GroupRows::new(&[0; 512], 512, &[1.0; 3], &[0; 3], 2));
    assert!(ragged.contains("3 multipliers in rows of 2"), "{ragged}");
    let sums = message(|| _ = I8GroupRows::new(&[0; 512], 512, &[1.0; 2], &[0; 1], 2));
    assert!(sums.contains("sums and multipliers"), "{sums}");
    let quantize = |multipliers: &mut [f32], sums: &mut [i32]| {
        sets()[0].quantize_i8_groups(&[0.0; 129], &mut [0; 256], multipliers, sums);
    };
    let sums = message(|| quantize(&mut [0.0; 2], &mut [0]));
    assert!(sums.contains("sums and groups"), "{sums}");
    let groups = message(|| quantize(&mut [0.0], &mut [0; 2]));
    assert!(groups.contains("multipliers and groups"), "{groups}");
    let room = message(|| _ = sets()[0].quantize_bits(&[0.0; 3], &mut [0; 63]));
    assert!(room.contains("512 values into 504 codes"), "{room}");
    let multiply = |layout, x: Input<'_>| {
        let matrix = Matrix::random(layout, 4, 300, &mut Random(1));
        let mut out = vec![0.0; 4];
        sets()[0].matmul(&matrix.view(), 0..4, x, &mut TileMut::whole(&mut out, 1, 4));
    };
    let kind = message(|| multiply(Layout::T2, Input::Bits(BitRows::new(&[0; 64], 64, &[1.0]))));
    assert!(kind.contains("t2.r1k256 takes no signs"), "{kind}");
    let few = |layout| {
        let x = I8GroupRows::new(&[0; 512], 512, &[1.0; 2], &[0; 2], 2);
        message(move || multiply(layout, Input::I8Groups(x)))
    };
    let groups = few(Layout::B1);
    assert!(
        groups.contains("3 groups of columns, 2 of activations"),
        "{groups}"
    );
    assert!(few(Layout::I8).contains("takes no int8 activations scaled by group"));
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
