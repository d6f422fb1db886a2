//! The allocator's leftovers, given back to the system.
//!
//! Loading a model allocates and frees several times its size in pieces; the allocator would keep them
//! for later, which never comes.

/// Gives back what is free. Takes milliseconds: for after a load, not for every batch. Does nothing where
/// the allocator is not glibc's.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "a C function without conditions that nobody has wrapped")]
    // SAFETY: it takes no pointer, and locks what it touches.
    unsafe {
        libc::malloc_trim(0);
    }
}
