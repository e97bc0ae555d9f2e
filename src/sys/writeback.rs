//! Asks the kernel to begin writing a file's data to the disk: sync_file_range(2).

use std::os::fd::{AsFd, AsRawFd};

/// Starts writing `length` bytes from `offset` on; a length of 0 means to the end. It does not wait,
/// and promises nothing: who needs the data on the disk still has to sync, and then waits less.
pub fn begin(file: impl AsFd, offset: u64, length: u64) {
    let (Ok(offset), Ok(length)) = (offset.try_into(), length.try_into()) else { return };
    // What cannot be begun (a pipe, a file system without a disk) is no loss.
    // SAFETY: the call takes numbers alone; the descriptor lives as long as `file`.
    let _ = unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
}
