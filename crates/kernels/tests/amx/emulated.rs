//! The set without the hardware: where an instruction of AMX is illegal, the signal handler does what the manual says it does
//! (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2).
//!
//! That tests the assembly, its operands and addresses, and everything around it, on any CPU with AVX-512; it says nothing about
//! speed or permission.

use std::cell::{Cell, UnsafeCell};
use std::sync::Once;

use libc::{c_int, c_void, siginfo_t, ucontext_t};

/// The tiles of a thread.
struct Tiles {
    rows: [u8; 8],
    row_bytes: [u16; 8],
    data: [[[u8; 64]; 16]; 8],
}

/// Tiles that were not configured.
const NO_TILES: Tiles = Tiles {
    rows: [0; 8],
    row_bytes: [0; 8],
    data: [[[0; 64]; 16]; 8],
};

thread_local! {
    static MULTIPLIED: Cell<usize> = const { Cell::new(0) };
    static TILES: UnsafeCell<Tiles> = const { UnsafeCell::new(NO_TILES) };
}

/// How many products of tiles this thread has emulated.
pub(super) fn multiplied() -> usize {
    MULTIPLIED.get()
}

/// From now on illegal instructions are looked at.
pub(super) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: an action of zeros is a valid one; the handler has the signature that SA_SIGINFO asks for.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = illegal_instruction as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            assert_eq!(
                libc::sigaction(libc::SIGILL, &action, std::ptr::null_mut()),
                0
            );
        }
    });
}

unsafe extern "C" fn illegal_instruction(signal: c_int, _: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel hands the context of the thread that was interrupted. Nothing else of this thread looks at its tiles.
    let done = unsafe {
        let registers = &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs;
        TILES.with(|tiles| execute(&mut *tiles.get(), registers))
    };
    if done.is_none() {
        // What is really illegal ends the process when it is tried again.
        // SAFETY: changes this signal's action only.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

type Registers = [libc::greg_t; 23];

/// General registers in the order of their numbers.
const NUMBERED: [c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// An instruction with a VEX prefix of three bytes, of the map 0F38.
struct Instruction {
    /// NP, 66, F3, F2.
    prefix: u8,
    opcode: u8,
    mode: u8,
    reg: usize,
    rm: usize,
    vvvv: usize,
    /// Of an operand in memory: where it is, and the index register, scaled.
    address: usize,
    stride: usize,
}

/// Executes the instruction at the instruction pointer and steps over it; `None` when it is not one of AMX.
///
/// # Safety
/// The registers must be those of a thread that is about to execute it.
unsafe fn execute(tiles: &mut Tiles, registers: &mut Registers) -> Option<()> {
    let code = registers[libc::REG_RIP as usize] as *const u8;
    // SAFETY: the instruction that was tried is in memory.
    let (instruction, len) = unsafe { decode(code, registers) }?;
    let Instruction {
        prefix,
        opcode,
        mode,
        reg,
        rm,
        vvvv,
        address,
        stride,
    } = instruction;
    // SAFETY: operands in memory are those of the instruction, which it may access.
    unsafe {
        match (opcode, prefix, mode) {
            (0x49, 0, 3) if (reg, rm) == (0, 0) => *tiles = NO_TILES,
            (0x49, 0, 0..3) if reg == 0 => tiles.configure(&*(address as *const [u8; 64]))?,
            (0x49, 3, 3) if rm == 0 => tiles.zero(reg)?,
            (0x4b, 1 | 3, 0..3) => tiles.load(reg, address as *const u8, stride)?,
            (0x4b, 2, 0..3) => tiles.store(reg, address as *mut u8, stride)?,
            (0x5e, _, 3) => tiles.multiply(prefix, [reg, rm, vvvv])?,
            _ => return None,
        }
    }
    registers[libc::REG_RIP as usize] += len as libc::greg_t;
    Some(())
}

/// # Safety
/// There must be an instruction at `code`.
unsafe fn decode(code: *const u8, registers: &Registers) -> Option<(Instruction, usize)> {
    // SAFETY: bytes are read one after the other as far as those before them say that the instruction goes.
    let byte = |i: usize| unsafe { *code.add(i) };
    if byte(0) != 0xc4 || byte(1) & 0x1f != 2 || byte(2) & 0x84 != 0 {
        return None;
    }
    let extended = |bit: u8| usize::from(byte(1) >> bit & 1 ^ 1) << 3;
    let (mode, low) = (byte(4) >> 6, byte(4) & 7);
    let mut instruction = Instruction {
        prefix: byte(2) & 3,
        opcode: byte(3),
        mode,
        reg: usize::from(byte(4) >> 3 & 7) | extended(7),
        rm: usize::from(low) | extended(5),
        vvvv: usize::from(!byte(2) >> 3 & 15),
        address: 0,
        stride: 0,
    };
    if mode == 3 {
        return Some((instruction, 5));
    }
    let value = |number: usize| registers[NUMBERED[number] as usize] as usize;
    let mut len = 5;
    let mut base = instruction.rm;
    if low == 4 {
        let sib = byte(5);
        len = 6;
        base = usize::from(sib & 7) | extended(5);
        let index = usize::from(sib >> 3 & 7) | extended(6);
        if index != 4 {
            instruction.stride = value(index) << (sib >> 6);
        }
    }
    if mode == 0 && base & 7 == 5 {
        return None;
    }
    let (displacement, size) = match mode {
        0 => (0, 0),
        1 => (isize::from(byte(len) as i8), 1),
        _ => {
            let bytes = [byte(len), byte(len + 1), byte(len + 2), byte(len + 3)];
            (i32::from_le_bytes(bytes) as isize, 4)
        }
    };
    instruction.address = value(base).wrapping_add_signed(displacement);
    Some((instruction, len + size))
}

impl Tiles {
    fn configure(&mut self, config: &[u8; 64]) -> Option<()> {
        *self = NO_TILES;
        let start_row = config[1];
        if config[0] != 1 || start_row != 0 || config[2..16].iter().any(|x| *x != 0) {
            return None;
        }
        for tile in 0..16 {
            let row_bytes = u16::from_le_bytes([config[16 + 2 * tile], config[17 + 2 * tile]]);
            let rows = config[48 + tile];
            let used = tile < 8 && rows <= 16 && row_bytes <= 64;
            match (used, rows, row_bytes) {
                (true, _, _) => (self.rows[tile], self.row_bytes[tile]) = (rows, row_bytes),
                (false, 0, 0) => {}
                _ => return None,
            }
        }
        Some(())
    }

    /// Rows and bytes of a tile that was configured.
    fn shape(&self, tile: usize) -> Option<(usize, usize)> {
        let shape = (*self.rows.get(tile)?, *self.row_bytes.get(tile)?);
        (shape.0 > 0 && shape.1 > 0).then_some((shape.0.into(), shape.1.into()))
    }

    fn zero(&mut self, tile: usize) -> Option<()> {
        self.shape(tile)?;
        self.data[tile] = [[0; 64]; 16];
        Some(())
    }

    /// # Safety
    /// The rows must be readable.
    unsafe fn load(&mut self, tile: usize, from: *const u8, stride: usize) -> Option<()> {
        let (rows, bytes) = self.shape(tile)?;
        self.zero(tile)?;
        for row in 0..rows {
            let to = self.data[tile][row].as_mut_ptr();
            // SAFETY: the caller vouches for what is read; a row of a tile is 64 bytes.
            unsafe {
                from.wrapping_add(row * stride)
                    .copy_to_nonoverlapping(to, bytes)
            };
        }
        Some(())
    }

    /// # Safety
    /// The rows must be writable.
    unsafe fn store(&self, tile: usize, to: *mut u8, stride: usize) -> Option<()> {
        let (rows, bytes) = self.shape(tile)?;
        for row in 0..rows {
            let from = self.data[tile][row].as_ptr();
            // SAFETY: the caller vouches for what is written; a row of a tile is 64 bytes.
            unsafe { from.copy_to_nonoverlapping(to.wrapping_add(row * stride), bytes) };
        }
        Some(())
    }

    /// `sums[m][n] += left[m][4 k + i] * right[k][4 n + i]`, 66: the left is unsigned, F3: the right, NP: both, F2: neither.
    fn multiply(&mut self, prefix: u8, [sums, left, right]: [usize; 3]) -> Option<()> {
        let ((rows, bytes), (_, depth), (lines, _)) =
            (self.shape(sums)?, self.shape(left)?, self.shape(right)?);
        if sums == left || sums == right || left == right || depth != 4 * lines {
            return None;
        }
        let number = |signed: bool, byte: u8| match signed {
            true => i32::from(byte as i8),
            false => i32::from(byte),
        };
        MULTIPLIED.set(MULTIPLIED.get() + 1);
        let (left_signed, right_signed) = (prefix >= 2, prefix & 1 == 1);
        let (left, right) = (self.data[left], self.data[right]);
        for (row, sums) in left.iter().zip(&mut self.data[sums]).take(rows) {
            for (n, sum) in sums[..bytes].as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let mut total = i32::from_le_bytes(*sum);
                for k in 0..depth {
                    let x = number(left_signed, row[k]);
                    let w = number(right_signed, right[k / 4][4 * n + k % 4]);
                    total = total.wrapping_add(x * w);
                }
                *sum = total.to_le_bytes();
            }
        }
        Some(())
    }
}
