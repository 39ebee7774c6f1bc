#include "syscalls.h"

#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/fsmap.h>
#include <linux/ioprio.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

// glibc's malloc.h. One binary is for musl as well, which has none.
extern "C" int mallopt(int parameter, int value) __attribute__((weak));

namespace ext4 {
namespace {

// fs/ext4/ext4.h, "ioctl commands": neither request is in an installed header.
constexpr unsigned long kMoveExt = _IOWR('f', 15, MoveExtent);

// include/uapi/linux/ext4.h of Linux 6.18, struct ext4_tune_sb_params: 232 bytes, of which only the feature
// words are read here.
struct TuneSbParams {
  uint8_t before_features[64];
  uint32_t compat;
  uint32_t incompat;
  uint32_t ro_compat;
  uint8_t rest[156];
};
constexpr unsigned long kGetTuneSbParam = _IOR('f', 45, TuneSbParams);

// fs/ext4/ext4.h, struct fsuuid, with room for the one length there is.
struct FsUuid {
  uint32_t length;
  uint32_t flags;
  uint8_t uuid[16];
};
// The request is encoded with the size of the header alone, whose array has no fixed length.
constexpr unsigned long kGetFsUuid = _IOC(_IOC_READ, 'f', 44, offsetof(FsUuid, uuid));

// struct file_handle of fcntl.h with the handle that ext4 makes: FILEID_INO32_GEN of linux/exportfs.h.
constexpr int kInodeAndGeneration = 1;
struct InodeHandle {
  uint32_t bytes;
  int32_t type;
  uint32_t inode;
  uint32_t generation;
};

static_assert(sizeof(off_t) == 8);
static_assert(sizeof(MoveExtent) == 40);
static_assert(sizeof(InodeHandle) == sizeof(struct file_handle) + 8);
static_assert(sizeof(TuneSbParams) == 232 && offsetof(TuneSbParams, compat) == 64);

int64_t Result(int64_t value) { return value < 0 ? -errno : value; }

}  // namespace

int64_t OpenAt2(int dir_fd, const char* path, uint64_t flags, uint64_t mode, uint64_t resolve) {
  struct open_how how = {};
  how.flags = flags | O_CLOEXEC;
  how.mode = mode;
  how.resolve = resolve;
  return Result(syscall(SYS_openat2, dir_fd, path, &how, sizeof how));
}

int64_t OpenByHandle(int mount_fd, uint32_t inode, uint32_t generation, int flags) {
  InodeHandle handle = {8, kInodeAndGeneration, inode, generation};
  return Result(syscall(SYS_open_by_handle_at, mount_fd, &handle, flags | O_CLOEXEC));
}

int64_t GetDents(int fd, std::vector<uint8_t>& out, size_t capacity) {
  out.resize(capacity);
  const int64_t bytes = Result(syscall(SYS_getdents64, fd, out.data(), capacity));
  out.resize(static_cast<size_t>(std::max<int64_t>(bytes, 0)));
  return bytes;
}

// FIEMAP answers one buffer at a time; the loop belongs to the call, since a file has any number of extents
// and each trip through JavaScript would cost more than the ioctl.
int64_t Fiemap(int fd, uint64_t start, uint64_t length, uint32_t flags, uint64_t max_extents,
               std::vector<uint64_t>& out) {
  // Most files have few extents: begin with a buffer that fits them and grow only for those that do not.
  constexpr uint64_t kFirstBatch = 72, kLargeBatch = 4096;
  constexpr auto words = [](uint64_t extents) {
    return (sizeof(struct fiemap) + extents * sizeof(struct fiemap_extent)) / 8;
  };
  const uint64_t end = length > UINT64_MAX - start ? UINT64_MAX : start + length;
  const size_t before = out.size();
  const auto found = [&] { return (out.size() - before) / kExtentWords; };
  uint64_t first[words(kFirstBatch)];
  std::unique_ptr<uint64_t[]> large;
  uint64_t batch = kFirstBatch, next = start;
  while (next < end && found() < max_extents) {
    if (batch == kLargeBatch && large == nullptr) large.reset(new uint64_t[words(kLargeBatch)]);
    auto* map = reinterpret_cast<struct fiemap*>(batch == kLargeBatch ? large.get() : first);
    std::memset(map, 0, sizeof *map);
    map->fm_start = next;
    map->fm_length = end - next;
    map->fm_flags = flags;
    map->fm_extent_count = static_cast<uint32_t>(std::min<uint64_t>(batch, max_extents - found()));
    if (ioctl(fd, FS_IOC_FIEMAP, map) < 0) return -errno;
    for (uint32_t i = 0; i < map->fm_mapped_extents; i++) {
      const auto& extent = map->fm_extents[i];
      out.insert(out.end(), {extent.fe_logical, extent.fe_physical, extent.fe_length, extent.fe_flags});
    }
    if (map->fm_mapped_extents == 0) break;
    const auto& last = map->fm_extents[map->fm_mapped_extents - 1];
    // An extent that does not move the cursor on would loop forever.
    if ((last.fe_flags & FIEMAP_EXTENT_LAST) || last.fe_logical + last.fe_length <= next) break;
    next = last.fe_logical + last.fe_length;
    batch = kLargeBatch;
  }
  return static_cast<int64_t>(found());
}

// Every call goes over all block groups in the range, so few calls with a large buffer; the loop belongs to the
// call as FIEMAP's does.
int64_t FsMap(int fd, uint32_t device, uint64_t start, uint64_t end, std::vector<uint64_t>& out) {
  constexpr uint32_t kBatch = 16384;
  constexpr size_t words = (sizeof(struct fsmap_head) + kBatch * sizeof(struct fsmap)) / 8;
  const std::unique_ptr<uint64_t[]> memory(new uint64_t[words]);
  auto* head = reinterpret_cast<struct fsmap_head*>(memory.get());
  std::memset(head, 0, sizeof *head);
  auto& [low, high] = head->fmh_keys;
  low.fmr_physical = start;
  high.fmr_device = device;
  high.fmr_flags = UINT32_MAX;
  high.fmr_physical = end - 1;
  high.fmr_owner = high.fmr_offset = UINT64_MAX;
  head->fmh_count = kBatch;
  const size_t before = out.size();
  while (start < end) {
    if (ioctl(fd, FS_IOC_GETFSMAP, head) < 0) return -errno;
    for (uint32_t i = 0; i < head->fmh_entries; i++) {
      const auto& record = head->fmh_recs[i];
      out.insert(out.end(), {record.fmr_physical, record.fmr_length, record.fmr_owner, record.fmr_flags});
    }
    if (head->fmh_entries == 0) break;
    const auto& last = head->fmh_recs[head->fmh_entries - 1];
    if (last.fmr_flags & FMR_OF_LAST) break;
    // ioctl_getfsmap(2): the last record is the next call's low key, its length included.
    low = last;
  }
  return static_cast<int64_t>((out.size() - before) / kFsMapWords);
}

int64_t MoveExtents(int fd, int donor_fd, uint64_t orig_start, uint64_t donor_start, uint64_t blocks,
                    uint64_t& moved) {
  moved = 0;
  // The kernel subtracts before it compares, so a length of 0 at offset 0 moves the whole file.
  if (blocks == 0) return -EINVAL;
  MoveExtent request = {0, static_cast<uint32_t>(donor_fd), orig_start, donor_start, blocks, 0};
  const int64_t result = Result(ioctl(fd, kMoveExt, &request));
  // Copied out on failure as well: what was exchanged before the error stays exchanged.
  moved = request.moved_len;
  return result;
}

int64_t Fallocate(int fd, int mode, int64_t offset, int64_t length) {
  return Result(fallocate(fd, mode, offset, length));
}

int64_t Fadvise(int fd, int64_t offset, int64_t length, int advice) {
  return -posix_fadvise(fd, offset, length, advice);  // answers the error instead of setting errno
}

int64_t Readahead(int fd, int64_t offset, int64_t length, int64_t step) {
  if (step <= 0) return -EINVAL;
  for (int64_t at = offset, end = offset + length; at < end; at += step) {
    if (readahead(fd, at, static_cast<size_t>(std::min(step, end - at))) < 0) return -errno;
  }
  return 0;
}

int64_t SyncFileRange(int fd, int64_t offset, int64_t length, unsigned flags) {
  return Result(sync_file_range(fd, offset, length, flags));
}

int64_t SetSignal(int fd, int signal) { return Result(fcntl(fd, F_SETSIG, signal)); }

int64_t SetLease(int fd, int type) { return Result(fcntl(fd, F_SETLEASE, type)); }

int64_t GetLease(int fd) { return Result(fcntl(fd, F_GETLEASE)); }

int64_t GetFlags(int fd) {
  int flags = 0;  // the kernel writes an int, whatever the request's declared size says
  const int64_t result = Result(ioctl(fd, FS_IOC_GETFLAGS, &flags));
  return result < 0 ? result : static_cast<uint32_t>(flags);
}

int64_t GetVersion(int fd) {
  int version = 0;  // the kernel writes an int, whatever the request's declared size says
  const int64_t result = Result(ioctl(fd, FS_IOC_GETVERSION, &version));
  return result < 0 ? result : static_cast<uint32_t>(version);
}

int64_t SetFlags(int fd, int flags) { return Result(ioctl(fd, FS_IOC_SETFLAGS, &flags)); }

int64_t StatFs(int fd, std::vector<uint64_t>& out) {
  struct statfs info = {};
  const int64_t result = Result(fstatfs(fd, &info));
  if (result == 0) {
    out = {static_cast<uint64_t>(info.f_type), static_cast<uint64_t>(info.f_bsize), info.f_blocks,
           info.f_bfree, info.f_bavail, info.f_files, info.f_ffree};
  }
  return result;
}

// mincore(2) looks at mappings, so the file is mapped for the moment. Nothing is read: no page is touched.
int64_t MinCore(int fd, int64_t offset, uint64_t length, std::vector<uint8_t>& out) {
  void* map = mmap(nullptr, length, PROT_NONE, MAP_PRIVATE, fd, offset);
  if (map == MAP_FAILED) return -errno;
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  out.resize((length + page - 1) / page);
  const int64_t result = Result(mincore(map, length, out.data()));
  munmap(map, length);
  return result;
}

int64_t ReadThrough(int fd, int64_t offset, int64_t length) {
  constexpr int64_t kStep = 64 * 1024;
  char scratch[kStep];
  for (int64_t at = offset, end = offset + length; at < end;) {
    const ssize_t bytes = pread(fd, scratch, static_cast<size_t>(std::min(kStep, end - at)), at);
    if (bytes < 0) return -errno;
    if (bytes == 0) break;  // the file has become shorter
    at += bytes;
  }
  return 0;
}

int64_t Close(int fd) { return Result(close(fd)); }

int64_t Flock(int fd, int operation) { return Result(flock(fd, operation)); }

// linux/ioprio.h has the numbers, and glibc no functions.
int64_t SetIoPriority(int thread, int priority) {
  return Result(syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, thread, priority));
}

int64_t GetIoPriority(int thread) { return Result(syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, thread)); }

int64_t FilesystemUuid(int fd, std::vector<uint8_t>& out) {
  FsUuid answer = {sizeof answer.uuid, 0, {}};
  const int64_t result = Result(ioctl(fd, kGetFsUuid, &answer));
  if (result == 0) out.assign(answer.uuid, answer.uuid + sizeof answer.uuid);
  return result;
}

int64_t TuneSuperblock(int fd, std::vector<uint64_t>& out) {
  TuneSbParams params = {};
  const int64_t result = Result(ioctl(fd, kGetTuneSbParam, &params));
  if (result == 0) out = {params.compat, params.incompat, params.ro_compat};
  return result;
}

std::vector<std::pair<const char*, uint64_t>> Layout() {
  return {
      {"FS_IOC_FIEMAP", FS_IOC_FIEMAP},
      {"fiemap", sizeof(struct fiemap)},
      {"fiemap_extent", sizeof(struct fiemap_extent)},
      {"fiemap_extent.fe_flags", offsetof(struct fiemap_extent, fe_flags)},
      {"EXT4_IOC_MOVE_EXT", kMoveExt},
      {"move_extent", sizeof(MoveExtent)},
      {"move_extent.donor_fd", offsetof(MoveExtent, donor_fd)},
      {"move_extent.orig_start", offsetof(MoveExtent, orig_start)},
      {"move_extent.donor_start", offsetof(MoveExtent, donor_start)},
      {"move_extent.len", offsetof(MoveExtent, len)},
      {"move_extent.moved_len", offsetof(MoveExtent, moved_len)},
      {"FS_IOC_GETFLAGS", FS_IOC_GETFLAGS},
      {"FS_IOC_SETFLAGS", FS_IOC_SETFLAGS},
      {"FS_IOC_GETVERSION", FS_IOC_GETVERSION},
      {"EXT4_IOC_GET_TUNE_SB_PARAM", kGetTuneSbParam},
      {"ext4_tune_sb_params", sizeof(TuneSbParams)},
      {"ext4_tune_sb_params.compat", offsetof(TuneSbParams, compat)},
      {"open_how", sizeof(struct open_how)},
      {"file_handle", sizeof(struct file_handle)},
      {"file_handle.handle_type", offsetof(struct file_handle, handle_type)},
      {"file_handle.f_handle", offsetof(struct file_handle, f_handle)},
      {"FS_IOC_GETFSMAP", FS_IOC_GETFSMAP},
      {"fsmap_head", sizeof(struct fsmap_head)},
      {"fsmap", sizeof(struct fsmap)},
      {"fsmap.fmr_length", offsetof(struct fsmap, fmr_length)},
      {"EXT4_IOC_GETFSUUID", kGetFsUuid},
      {"fsuuid.fsu_uuid", offsetof(FsUuid, uuid)},
  };
}

int64_t MallOpt(int parameter, int value) {
  if (mallopt == nullptr) return -ENOSYS;
  return mallopt(parameter, value) == 1 ? 0 : -EINVAL;
}

}  // namespace ext4
