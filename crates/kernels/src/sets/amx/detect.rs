//! Whether tiles can be used: what the CPU has, and what the kernel permits.
//!
//! Tiles are 8 KiB of registers that a kernel must save for each thread. Linux enlarges the memory
//! of a thread for them when it first uses one, and only in processes that asked for it.

use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::sync::OnceLock;

use crate::sets::avx512;

/// The features this CPU lacks.
pub(crate) fn missing() -> Vec<&'static str> {
    let mut missing = avx512::missing();
    let features = features();
    missing.extend(
        [
            ("amx-tile", features.tile),
            ("amx-int8", features.int8),
            ("tiles of 16 x 64 bytes", features.palette),
            ("tile state enabled by the kernel", features.state),
        ]
        .into_iter()
        .filter(|(_, found)| !found)
        .map(|(name, _)| name),
    );
    missing
}

/// What CPUID says.
#[derive(Default)]
struct Features {
    tile: bool,
    int8: bool,
    /// Palette 1 has 8 tiles of 16 rows of 64 bytes.
    palette: bool,
    /// The kernel saves and restores tiles.
    state: bool,
}

fn features() -> Features {
    const OSXSAVE: u32 = 1 << 27;
    /// Components 17 and 18 of XCR0: the configuration of tiles, and their data.
    const TILE_STATE: u64 = 0b11 << 17;
    let most = __cpuid(0).eax;
    if most < 0x1d {
        return Features::default();
    }
    let extended = __cpuid_count(7, 0).edx;
    let (tile, int8) = (extended >> 24 & 1 == 1, extended >> 25 & 1 == 1);
    let (palettes, palette) = (__cpuid_count(0x1d, 0).eax, __cpuid_count(0x1d, 1));
    let xsave = __cpuid(1).ecx & OSXSAVE != 0;
    Features {
        tile,
        int8,
        palette: tile && palettes >= 1 && palette.ebx == 8 << 16 | 64 && palette.ecx & 0xffff == 16,
        // SAFETY: the kernel has enabled XGETBV.
        state: xsave && unsafe { xcr0() } & TILE_STATE == TILE_STATE,
    }
}

/// Which register state the kernel saves.
///
/// # Safety
/// CPUID must show OSXSAVE.
#[target_feature(enable = "xsave")]
unsafe fn xcr0() -> u64 {
    // SAFETY: the caller vouches for the instruction, and register 0 exists wherever it does.
    unsafe { _xgetbv(0) }
}

/// Asks the kernel, once, for the use of tiles by all threads of this process.
pub(crate) fn permission() -> Result<(), String> {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    ANSWER.get_or_init(ask).clone()
}

#[cfg(target_os = "linux")]
fn ask() -> Result<(), String> {
    const ARCH_PRCTL: isize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const XFEATURE_XTILEDATA: usize = 18;
    let result: isize;
    // SAFETY: a system call with two numbers touches no memory of ours; it overwrites RAX, RCX, R11.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    match result {
        0 => Ok(()),
        error => {
            let error = std::io::Error::from_raw_os_error(-error as i32);
            Err(format!("the kernel refuses tile data: {error}"))
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn ask() -> Result<(), String> {
    Err("the use of tiles can only be asked for on Linux".to_owned())
}
