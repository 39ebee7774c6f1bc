// One function per system call: plain types in, a value or -errno out. No JavaScript and no policy here.
// (What many files need one after the other is in walk.h.)
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace ext4 {

/// One extent as four words: logical, physical and length in bytes, then the FIEMAP_EXTENT_* flags.
inline constexpr size_t kExtentWords = 4;

/// struct move_extent of fs/ext4/ext4.h: private to the kernel, in no installed header.
struct MoveExtent {
  uint32_t reserved;
  uint32_t donor_fd;
  uint64_t orig_start;   // all four in filesystem blocks
  uint64_t donor_start;
  uint64_t len;
  uint64_t moved_len;
};

int64_t OpenAt2(int dir_fd, const char* path, uint64_t flags, uint64_t mode, uint64_t resolve);
/// Opens by inode number and generation, where generation 0 fits any; `mount_fd` is any descriptor of the
/// filesystem.
int64_t OpenByHandle(int mount_fd, uint32_t inode, uint32_t generation, int flags);
int64_t GetDents(int fd, std::vector<uint8_t>& out, size_t capacity);
/// Appends the extents to `out` and answers how many there were.
int64_t Fiemap(int fd, uint64_t start, uint64_t length, uint32_t flags, uint64_t max_extents,
               std::vector<uint64_t>& out);
/// One record as four words: where it begins and how long it is, in bytes; its owner; FMR_OF_* flags.
inline constexpr size_t kFsMapWords = 4;
/// Appends what a filesystem uses the bytes from `start` to `end` of its device for, and answers how many records.
/// `device` is its number as st_dev has it: without the right one the kernel goes on to the end.
int64_t FsMap(int fd, uint32_t device, uint64_t start, uint64_t end, std::vector<uint64_t>& out);
int64_t MoveExtents(int fd, int donor_fd, uint64_t orig_start, uint64_t donor_start, uint64_t blocks,
                    uint64_t& moved);
int64_t Fallocate(int fd, int mode, int64_t offset, int64_t length);
int64_t Fadvise(int fd, int64_t offset, int64_t length, int advice);
int64_t Readahead(int fd, int64_t offset, int64_t length, int64_t step);
int64_t SyncFileRange(int fd, int64_t offset, int64_t length, unsigned flags);
int64_t SetSignal(int fd, int signal);
int64_t SetLease(int fd, int type);
int64_t GetLease(int fd);
int64_t GetFlags(int fd);
int64_t GetVersion(int fd);
int64_t SetFlags(int fd, int flags);
int64_t StatFs(int fd, std::vector<uint64_t>& out);
/// A byte for each page of a range, its lowest bit set when the page is in the cache and holds the data.
int64_t MinCore(int fd, int64_t offset, uint64_t length, std::vector<uint8_t>& out);
/// Reads a range and forgets it: returns when all of it is in the cache.
int64_t ReadThrough(int fd, int64_t offset, int64_t length);
int64_t Close(int fd);
int64_t Flock(int fd, int operation);
/// Of one thread, by its id.
int64_t SetIoPriority(int thread, int priority);
int64_t GetIoPriority(int thread);
int64_t FilesystemUuid(int fd, std::vector<uint8_t>& out);
int64_t TuneSuperblock(int fd, std::vector<uint64_t>& out);

/// Sizes, offsets and request numbers as this compiler sees them, for the layout test.
std::vector<std::pair<const char*, uint64_t>> Layout();

/// mallopt(3), which is no system call; -ENOSYS where the C library has none.
int64_t MallOpt(int parameter, int value);

}  // namespace ext4
