#include "walk.h"

#include <fcntl.h>
#include <linux/fiemap.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>

#include "syscalls.h"

namespace ext4 {
namespace {

// What getdents64 writes, from fs/readdir.c, struct linux_dirent64: the name follows at kNameOffset with a NUL.
struct DirentHead {
  uint64_t inode;
  int64_t offset;
  uint16_t length;
  uint8_t kind;
};
constexpr size_t kNameOffset = 19;
static_assert(offsetof(DirentHead, kind) == 18);

constexpr size_t kDirentBuffer = 64 * 1024;

int64_t Result(int64_t value) { return value < 0 ? -errno : value; }

struct Entry {
  uint32_t inode;
  uint32_t kind;
  size_t name;  // where it begins in the arena
  size_t length;
};

/// Reads on in one directory, names into an arena: 0 at its end, 1 where it goes on, or -errno.
int64_t ReadOn(int fd, size_t capacity, uint8_t* buffer, std::vector<Entry>& entries, std::string& arena) {
  for (size_t bytes = 0; bytes < capacity;) {
    const int64_t result = Result(syscall(SYS_getdents64, fd, buffer, kDirentBuffer));
    if (result <= 0) return result;
    DirentHead head;
    for (const uint8_t* at = buffer; at < buffer + result; at += head.length) {
      std::memcpy(&head, at, kNameOffset);
      const std::string_view name(reinterpret_cast<const char*>(at + kNameOffset));
      if (name == "." || name == "..") continue;
      // ext4 has inode numbers of 32 bits.
      entries.push_back({static_cast<uint32_t>(head.inode), head.kind, arena.size(), name.size()});
      arena.append(name);
    }
    bytes += static_cast<size_t>(result);
  }
  return 1;
}

struct Range {
  uint64_t start;
  uint64_t end;
};

/// Starts reading where directories lie on a device, as far as a first reading of each goes.
void ReadAhead(int device_fd, const std::vector<int64_t>& fds, size_t capacity) {
  constexpr uint64_t kMaxExtents = 4;  // of one directory
  constexpr uint64_t kSmallGap = 32 * 1024;  // faster read than passed over
  std::vector<uint64_t> extents;
  std::vector<Range> ranges;
  for (const int64_t fd : fds) {
    if (fd < 0) continue;
    extents.clear();
    if (Fiemap(static_cast<int>(fd), 0, capacity, 0, kMaxExtents, extents) < 0) continue;
    for (size_t at = 0; at < extents.size(); at += kExtentWords) {
      // Inline data have no place of their own. The rest of a large directory is read when its turn comes.
      if (extents[at + 3] & (FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_DATA_INLINE)) continue;
      const uint64_t length = std::min<uint64_t>(extents[at + 2], capacity);
      ranges.push_back({extents[at + 1], extents[at + 1] + length});
    }
  }
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.start < b.start; });
  for (size_t i = 0; i < ranges.size();) {
    Range run = ranges[i++];
    for (; i < ranges.size() && ranges[i].start <= run.end + kSmallGap; i++) {
      run.end = std::max(run.end, ranges[i].end);
    }
    Fadvise(device_fd, static_cast<int64_t>(run.start), static_cast<int64_t>(run.end - run.start),
            POSIX_FADV_WILLNEED);
  }
}

/// Bytes that this thread has had read from devices since it began (getrusage(2): in units of 512).
uint64_t BytesRead() {
  struct rusage usage;
  return getrusage(RUSAGE_THREAD, &usage) < 0 ? 0 : static_cast<uint64_t>(usage.ru_inblock) * 512;
}

void Fail(uint32_t* record, InspectionCall call, int64_t error) {
  record[kErrno] = static_cast<uint32_t>(-error);
  record[kCall] = call;
}

/// The flags and the extents of a regular file.
void Describe(int fd, bool has_blocks, uint32_t* record, std::vector<uint64_t>& extents) {
  const int64_t inode_flags = GetFlags(fd);
  if (inode_flags < 0) return Fail(record, kGetFlags, inode_flags);
  record[kFlags] = static_cast<uint32_t>(inode_flags);
  if (!has_blocks) return;
  const size_t before = extents.size();
  const int64_t count = Fiemap(fd, 0, UINT64_MAX, 0, UINT64_MAX, extents);
  if (count < 0) {
    extents.resize(before);
    return Fail(record, kFiemap, count);
  }
  record[kExtents] = static_cast<uint32_t>(count);
}

void FillIn(const struct stat& info, uint32_t* record) {
  record[kInode] = static_cast<uint32_t>(info.st_ino);
  record[kMode] = info.st_mode;
  record[kLinks] = static_cast<uint32_t>(info.st_nlink);
  record[kSizeLow] = static_cast<uint32_t>(info.st_size);
  record[kSizeHigh] = static_cast<uint32_t>(info.st_size >> 32);
  record[kBlocksLow] = static_cast<uint32_t>(info.st_blocks);
  record[kBlocksHigh] = static_cast<uint32_t>(info.st_blocks >> 32);
}

/// `open(i, record)` answers a descriptor, or less than 0 where the record says already all there is to say.
template <typename Open>
void Inspect(size_t count, const Open& open, uint64_t max_extents, Inspection& out) {
  out.records.assign(count * kRecordWords, 0);
  for (size_t i = 0; i < count; i++) {
    if (out.extents.size() / kExtentWords > max_extents) {
      out.records.resize(i * kRecordWords);
      break;
    }
    uint32_t* record = out.records.data() + i * kRecordWords;
    const int fd = open(i, record);
    if (fd < 0) continue;
    struct stat info;
    if (fstat(fd, &info) < 0) {
      Fail(record, kStat, -errno);
    } else {
      FillIn(info, record);
      if (S_ISREG(info.st_mode)) Describe(fd, info.st_blocks > 0, record, out.extents);
    }
    close(fd);
  }
}

int Opened(int64_t fd, InspectionCall call, uint32_t* record) {
  if (fd < 0) Fail(record, call, fd);
  return static_cast<int>(fd);
}

/// The kernel takes generation 0 for any, but mke2fs -d gives it to every inode: what is opened must have it, and
/// be a file.
int OpenGeneration0(int mount_fd, uint32_t inode, int flags, uint32_t* record) {
  const int64_t path_fd = OpenByHandle(mount_fd, inode, 0, O_PATH);
  if (path_fd < 0) return Opened(path_fd, kOpenByHandle, record);
  struct stat info;
  int64_t fd = -1;
  if (fstat(static_cast<int>(path_fd), &info) < 0) {
    Fail(record, kStat, -errno);
  } else if (!S_ISREG(info.st_mode)) {
    FillIn(info, record);
  } else {
    const std::string path = "/proc/self/fd/" + std::to_string(path_fd);
    fd = Result(open(path.c_str(), (flags & ~O_NOFOLLOW) | O_CLOEXEC));
    if (fd >= 0 && GetVersion(static_cast<int>(fd)) > 0) {
      close(static_cast<int>(fd));
      fd = -ESTALE;
    }
    if (fd < 0) Fail(record, kOpenByHandle, fd);
  }
  close(static_cast<int>(path_fd));
  return static_cast<int>(fd);
}

}  // namespace

void ReadDirectories(const Names& names, uint64_t flags, uint64_t resolve, size_t capacity, int device_fd,
                     Listing& out) {
  const uint64_t before = BytesRead();
  std::vector<int64_t> fds(names.Count());
  for (size_t i = 0; i < fds.size(); i++) {
    const char* name = names.At(i);
    fds[i] = *name == 0 ? names.fds[i] : OpenAt2(names.fds[i], name, flags, 0, resolve);
  }
  if (device_fd >= 0) ReadAhead(device_fd, fds, capacity);
  const std::unique_ptr<uint8_t[]> buffer(new uint8_t[kDirentBuffer]);
  std::vector<Entry> entries;
  std::string arena;
  for (const int64_t fd : fds) {
    entries.clear();
    arena.clear();
    const int64_t state =
        fd < 0 ? 0 : ReadOn(static_cast<int>(fd), capacity, buffer.get(), entries, arena);
    // Inodes lie on the device in the order of their numbers; a directory's own order is that of hashes.
    std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.inode < b.inode; });
    out.directories.insert(out.directories.end(), {static_cast<int32_t>(fd), static_cast<int32_t>(state),
                                                   static_cast<int32_t>(entries.size())});
    for (const Entry& entry : entries) {
      out.entries.insert(out.entries.end(),
                         {entry.inode, entry.kind, static_cast<uint32_t>(entry.length)});
      out.names.append(arena, entry.name, entry.length).push_back('\0');
    }
  }
  out.bytes_read = BytesRead() - before;
}

void InspectNames(const Names& names, uint64_t flags, uint64_t resolve, bool stat_first, uint64_t max_extents,
                  Inspection& out) {
  const auto open = [&](size_t i, uint32_t* record) {
    if (stat_first) {
      struct stat info;
      if (fstatat(names.fds[i], names.At(i), &info, AT_SYMLINK_NOFOLLOW) < 0) {
        Fail(record, kStat, -errno);
        return -1;
      }
      if (!S_ISREG(info.st_mode)) {
        FillIn(info, record);
        return -1;
      }
    }
    return Opened(OpenAt2(names.fds[i], names.At(i), flags, 0, resolve), kOpenAt2, record);
  };
  Inspect(names.Count(), open, max_extents, out);
}

void InspectHandles(int mount_fd, const std::vector<uint32_t>& inodes,
                    const std::vector<uint32_t>& generations, int flags, uint64_t max_extents,
                    Inspection& out) {
  const auto open = [&](size_t i, uint32_t* record) {
    if (generations[i] == 0) return OpenGeneration0(mount_fd, inodes[i], flags, record);
    return Opened(OpenByHandle(mount_fd, inodes[i], generations[i], flags), kOpenByHandle, record);
  };
  Inspect(inodes.size(), open, max_extents, out);
}

void CloseAll(const std::vector<int32_t>& fds) {
  for (const int32_t fd : fds) close(fd);
}

}  // namespace ext4
