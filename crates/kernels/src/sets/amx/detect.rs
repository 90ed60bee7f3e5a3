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
    let extended = match __cpuid(0).eax {
        0..7 => 0,
        _ => __cpuid_count(7, 0).edx,
    };
    let (tile, int8) = (extended >> 24 & 1 == 1, extended >> 25 & 1 == 1);
    for (name, found) in [
        ("amx-tile", tile),
        ("amx-int8", int8),
        // What follows has no meaning on a CPU without tiles.
        ("tiles of 16 x 64 bytes", !tile || whole_tiles()),
        ("tiles enabled by the kernel", !tile || saved_tiles()),
    ] {
        if !found {
            missing.push(name);
        }
    }
    missing
}

/// Whether palette 1 has 8 tiles of 16 rows of 64 bytes, on a CPU that has palettes.
fn whole_tiles() -> bool {
    let palette = __cpuid_count(0x1d, 1);
    let (row_bytes, tiles) = (palette.ebx & 0xffff, palette.ebx >> 16);
    (row_bytes, tiles, palette.ecx & 0xffff) == (64, 8, 16)
}

/// Whether the kernel saves and restores the configuration and the data of tiles.
fn saved_tiles() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    const TILE_STATE: u64 = 0b11 << 17;
    // SAFETY: XGETBV exists where OSXSAVE is shown.
    __cpuid(1).ecx & OSXSAVE != 0 && unsafe { xcr0() } & TILE_STATE == TILE_STATE
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_permits_no_tiles_where_there_are_none() {
        if missing().contains(&"amx-tile") {
            let refusal = permission().unwrap_err();
            assert!(
                refusal.starts_with("the kernel refuses tile data: "),
                "{refusal}"
            );
        }
    }
}
