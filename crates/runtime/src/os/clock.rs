//! Local time.

/// Seconds that local time is ahead of UTC at a moment, given in seconds since 1970; 0 where the
/// system does not say.
#[cfg(unix)]
pub(crate) fn utc_offset(seconds: i64) -> i64 {
    // 32 bits on some targets.
    #[allow(irrefutable_let_patterns)]
    let Ok(time) = libc::time_t::try_from(seconds) else {
        return 0;
    };
    let mut parts = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are valid for the call, which keeps neither; all zeroes is a valid `tm`.
    let parts = unsafe {
        libc::localtime_r(&time, parts.as_mut_ptr());
        parts.assume_init()
    };
    // So is this.
    #[allow(clippy::useless_conversion)]
    i64::from(parts.tm_gmtoff)
}

/// Seconds that local time is ahead of UTC: unknown here.
#[cfg(not(unix))]
pub(crate) fn utc_offset(_seconds: i64) -> i64 {
    0
}
