//! Giving memory back that only the start needed.

use std::ffi::{c_int, c_void};

/// Frees what the heap holds unused and drops the pages of the program's code and constants; those
/// come back from the page cache as they are touched, and most never are.
pub fn release() {
    // SAFETY: takes a number and is thread-safe: malloc_trim(3).
    unsafe { libc::malloc_trim(0) };
    // SAFETY: the function has the signature that dl_iterate_phdr(3) calls, and takes no data.
    unsafe { libc::dl_iterate_phdr(Some(drop_constants), std::ptr::null_mut()) };
}

/// For the first object, the program itself. What relocation has written to lies in segments that
/// are writable by their program header, even where it is read-only by now (RELRO): those stay.
unsafe extern "C" fn drop_constants(object: *mut libc::dl_phdr_info, _size: usize, _data: *mut c_void) -> c_int {
    // SAFETY: takes a number.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(1 << 16);
    // SAFETY: dl_iterate_phdr(3) passes a valid object with `dlpi_phnum` headers.
    let (base, headers) = unsafe {
        let object = &*object;
        (object.dlpi_addr, std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()))
    };
    for header in headers.iter().filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_W == 0) {
        // Whole pages of this segment alone: its edges may share theirs with a writable neighbour.
        let start = usize::try_from(base + header.p_vaddr).unwrap_or(0).next_multiple_of(page);
        let end = usize::try_from(base + header.p_vaddr + header.p_filesz).unwrap_or(0) / page * page;
        if start < end {
            // SAFETY: a private mapping of the program's file that was never writable, so each page
            // holds the file's content, and the kernel reads it again when it is touched.
            unsafe { libc::madvise(start as *mut c_void, end - start, libc::MADV_DONTNEED) };
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_goes_on() {
        let before = vec![7u8; 1 << 20];
        release();
        assert!(before.iter().all(|&b| b == 7));
        assert_eq!(format!("{:?}", std::env::args_os().next().is_some()), "true");
    }
}
