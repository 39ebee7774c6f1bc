// What a walk asks of many directories and files, several system calls for each and one trip off the event
// loop for all: with small files such a trip costs more than the calls. No JavaScript and no policy here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace ext4 {

/// Names, each relative to a descriptor of its own, in the order in which they are worked on.
struct Names {
  std::vector<int32_t> fds;
  std::vector<uint32_t> offsets;  // into `text`
  std::string text;               // every name with a NUL behind it

  size_t Count() const { return fds.size(); }
  const char* At(size_t i) const { return text.data() + offsets[i]; }
};

/// Words of Listing::directories for one directory: its descriptor or -errno of openat2; 0 at its end, 1
/// where it goes on, or -errno of getdents64; and how many entries were read.
inline constexpr size_t kDirectoryWords = 3;

/// Words of Listing::entries for one entry: inode, DT_* and the length of its name.
inline constexpr size_t kEntryWords = 3;

struct Listing {
  std::vector<int32_t> directories;
  std::vector<uint32_t> entries;  // without "." and "..", by inode number within a directory
  std::string names;              // of all entries in that order, each with a NUL behind it
  uint64_t bytes_read = 0;        // from devices, where the kernel counts that; 0 when all was cached
};

/// Opens directories and reads of each about `capacity` bytes of entries (64 KiB more at most). An empty name
/// reads on where the descriptor itself stands. Every descriptor that it answers is the caller's to close,
/// also where reading failed.
///
/// `device_fd` is the filesystem's block device, or -1: through it the directories' blocks are read ahead, in
/// device order and neighbours in one go. The kernel reads a directory block by block, and each would be
/// waited for.
void ReadDirectories(const Names& names, uint64_t flags, uint64_t resolve, size_t capacity, int device_fd,
                     Listing& out);

/// Words of Inspection::records for one inode, see RecordWord.
inline constexpr size_t kRecordWords = 11;

enum RecordWord : size_t {
  kErrno,  // 0, or why there is nothing else but the call
  kCall,   // InspectionCall
  kInode,
  kMode,
  kLinks,
  kSizeLow,
  kSizeHigh,
  kBlocksLow,  // st_blocks
  kBlocksHigh,
  kFlags,    // FS_IOC_GETFLAGS
  kExtents,  // how many of Inspection::extents are its own
};

/// The call that failed.
enum InspectionCall : uint32_t { kNone, kOpenAt2, kOpenByHandle, kStat, kGetFlags, kFiemap };

struct Inspection {
  std::vector<uint32_t> records;
  std::vector<uint64_t> extents;  // kExtentWords each
};

/// Opens each name and answers what fstat, FS_IOC_GETFLAGS and FIEMAP say of it: flags of a regular file
/// only, and extents where it has blocks. Stops after the file with which there are more than `max_extents`
/// extents, so there may be fewer records than names, but one at least.
///
/// `stat_first` looks before it opens, for names that may be anything: opening a device does something to it.
/// It costs a tenth of all. A last component that is a symbolic link is not followed, but `resolve` counts
/// for opening only.
void InspectNames(const Names& names, uint64_t flags, uint64_t resolve, bool stat_first, uint64_t max_extents,
                  Inspection& out);

/// The same of inodes by number and generation, where 0 fits only 0; `mount_fd` is any descriptor of the
/// filesystem.
void InspectHandles(int mount_fd, const std::vector<uint32_t>& inodes,
                    const std::vector<uint32_t>& generations, int flags, uint64_t max_extents,
                    Inspection& out);

/// Closes descriptors. What close(2) answers is of no use: they were only read from.
void CloseAll(const std::vector<int32_t>& fds);

}  // namespace ext4
