// Node-API glue: arguments are copied out of JavaScript on the main thread, the system call runs on a worker
// thread, and its answer (a value or -errno) resolves a promise. Nothing here decides anything.
#include <napi.h>

#include <algorithm>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "syscalls.h"
#include "walk.h"

namespace {

/// What a system call left: its result, and words or bytes for the calls that answer more than a number.
struct Answer {
  int64_t result = 0;
  std::vector<uint64_t> words;
  std::vector<uint8_t> bytes;
};

template <typename Output>
using Operation = std::function<void(Output&)>;
template <typename Output>
using Convert = Napi::Value (*)(Napi::Env, Output&);

/// A system call on its way: run on a worker thread, settled on the main one.
class Call {
 public:
  virtual ~Call() = default;
  virtual void Run() = 0;
  virtual void Settle(Napi::Env env) = 0;
};

template <typename Output>
class CallFor final : public Call {
 public:
  CallFor(Napi::Env env, Operation<Output> operation, Convert<Output> convert)
      : deferred_(Napi::Promise::Deferred::New(env)), operation_(std::move(operation)), convert_(convert) {}

  Napi::Promise Promise() const { return deferred_.Promise(); }
  void Run() override { operation_(answer_); }
  void Settle(Napi::Env env) override { deferred_.Resolve(convert_(env, answer_)); }

 private:
  Napi::Promise::Deferred deferred_;
  Operation<Output> operation_;
  Convert<Output> convert_;
  Output answer_;
};

using Calls = std::vector<std::unique_ptr<Call>>;

/// One trip to a worker thread, with one call or several in their order.
class Trip final : public Napi::AsyncWorker {
 public:
  Trip(Napi::Env env, Calls calls) : Napi::AsyncWorker(env), calls_(std::move(calls)) {}

 protected:
  void Execute() override {
    for (const auto& call : calls_) call->Run();
  }
  void OnOK() override {
    for (const auto& call : calls_) {
      const Napi::HandleScope scope(Env());
      call->Settle(Env());
    }
  }

 private:
  Calls calls_;
};

void Send(Napi::Env env, Calls calls) { (new Trip(env, std::move(calls)))->Queue(); }

/// Calls that wait for others to travel with.
struct Gathering {
  bool open = false;
  Calls calls;
};

template <typename Output>
Napi::Value StartFor(const Napi::CallbackInfo& info, Convert<Output> convert, Operation<Output> operation) {
  auto call = std::make_unique<CallFor<Output>>(info.Env(), std::move(operation), convert);
  const Napi::Promise promise = call->Promise();
  auto* gathering = info.Env().GetInstanceData<Gathering>();
  Calls alone;
  (gathering->open ? gathering->calls : alone).push_back(std::move(call));
  if (!alone.empty()) Send(info.Env(), std::move(alone));
  return promise;
}

/// Whether the calls from here on are gathered.
void Gather(const Napi::CallbackInfo& info) {
  info.Env().GetInstanceData<Gathering>()->open = info[0].ToBoolean().Value();
}

/// Sends what was gathered, so many calls a trip.
void SendGathered(const Napi::CallbackInfo& info) {
  auto* gathering = info.Env().GetInstanceData<Gathering>();
  const auto most = static_cast<size_t>(std::max<int64_t>(1, info[0].ToNumber().Int64Value()));
  Calls calls = std::move(gathering->calls);
  gathering->calls.clear();
  for (size_t from = 0; from < calls.size(); from += most) {
    const auto first = calls.begin() + static_cast<ptrdiff_t>(from);
    const auto last = first + static_cast<ptrdiff_t>(std::min(most, calls.size() - from));
    Send(info.Env(), Calls(std::make_move_iterator(first), std::make_move_iterator(last)));
  }
}

Napi::Value Start(const Napi::CallbackInfo& info, Convert<Answer> convert, Operation<Answer> operation) {
  return StartFor<Answer>(info, convert, std::move(operation));
}

Napi::Value ToNumber(Napi::Env env, Answer& answer) {
  return Napi::Number::New(env, static_cast<double>(answer.result));
}

/// A BigUint64Array, or -errno.
Napi::Value ToWords(Napi::Env env, Answer& answer) {
  if (answer.result < 0) return ToNumber(env, answer);
  auto words = Napi::BigUint64Array::New(env, answer.words.size());
  std::copy(answer.words.begin(), answer.words.end(), words.Data());
  return words;
}

/// A Buffer, or -errno.
Napi::Value ToBytes(Napi::Env env, Answer& answer) {
  if (answer.result < 0) return ToNumber(env, answer);
  return Napi::Buffer<uint8_t>::Copy(env, answer.bytes.data(), answer.bytes.size());
}

/// [result, word]: for a call whose output counts on failure too.
Napi::Value ToPair(Napi::Env env, Answer& answer) {
  auto pair = Napi::Array::New(env, 2);
  pair.Set(0U, ToNumber(env, answer));
  pair.Set(1U, Napi::Number::New(env, static_cast<double>(answer.words.at(0))));
  return pair;
}

/// Argument `index` as an integer. lib/kernel checks ranges; a number in JavaScript is exact to 2^53.
int64_t Integer(const Napi::CallbackInfo& info, size_t index) {
  return info[index].ToNumber().Int64Value();
}

int Int(const Napi::CallbackInfo& info, size_t index) { return static_cast<int>(Integer(info, index)); }

/// Argument `index` as 64 unsigned bits, where the whole range is used.
uint64_t Word(const Napi::CallbackInfo& info, size_t index) {
  if (!info[index].IsBigInt()) return static_cast<uint64_t>(Integer(info, index));
  bool lossless = false;
  return info[index].As<Napi::BigInt>().Uint64Value(&lossless);
}

Napi::Value OpenAt2(const Napi::CallbackInfo& info) {
  if (!info[1].IsBuffer()) {
    Napi::TypeError::New(info.Env(), "openat2: the path must be a Buffer").ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  const auto buffer = info[1].As<Napi::Buffer<char>>();
  const std::string path(buffer.Data(), buffer.Length());
  return Start(info, ToNumber,
               [dir_fd = Int(info, 0), path, flags = Word(info, 2), mode = Word(info, 3),
                resolve = Word(info, 4)](Answer& answer) {
                 answer.result = ext4::OpenAt2(dir_fd, path.c_str(), flags, mode, resolve);
               });
}

Napi::Value OpenByHandle(const Napi::CallbackInfo& info) {
  return Start(info, ToNumber,
               [mount_fd = Int(info, 0), inode = static_cast<uint32_t>(Word(info, 1)),
                generation = static_cast<uint32_t>(Word(info, 2)), flags = Int(info, 3)](Answer& answer) {
                 answer.result = ext4::OpenByHandle(mount_fd, inode, generation, flags);
               });
}

Napi::Value GetDents(const Napi::CallbackInfo& info) {
  return Start(info, ToBytes, [fd = Int(info, 0), capacity = Word(info, 1)](Answer& answer) {
    answer.result = ext4::GetDents(fd, answer.bytes, capacity);
  });
}

Napi::Value Fiemap(const Napi::CallbackInfo& info) {
  return Start(info, ToWords,
               [fd = Int(info, 0), start = Word(info, 1), length = Word(info, 2), flags = Word(info, 3),
                limit = Word(info, 4)](Answer& answer) {
                 answer.result =
                     ext4::Fiemap(fd, start, length, static_cast<uint32_t>(flags), limit, answer.words);
               });
}

Napi::Value FsMap(const Napi::CallbackInfo& info) {
  return Start(info, ToWords,
               [fd = Int(info, 0), device = static_cast<uint32_t>(Word(info, 1)), start = Word(info, 2),
                end = Word(info, 3)](Answer& answer) {
                 answer.result = ext4::FsMap(fd, device, start, end, answer.words);
               });
}

Napi::Value MoveExtents(const Napi::CallbackInfo& info) {
  return Start(info, ToPair,
               [fd = Int(info, 0), donor = Int(info, 1), orig_start = Word(info, 2),
                donor_start = Word(info, 3), blocks = Word(info, 4)](Answer& answer) {
                 uint64_t moved = 0;
                 answer.result = ext4::MoveExtents(fd, donor, orig_start, donor_start, blocks, moved);
                 answer.words = {moved};
               });
}

Napi::Value Fallocate(const Napi::CallbackInfo& info) {
  return Start(info, ToNumber,
               [fd = Int(info, 0), mode = Int(info, 1), offset = Integer(info, 2),
                length = Integer(info, 3)](Answer& answer) {
                 answer.result = ext4::Fallocate(fd, mode, offset, length);
               });
}

Napi::Value Fadvise(const Napi::CallbackInfo& info) {
  return Start(info, ToNumber,
               [fd = Int(info, 0), offset = Integer(info, 1), length = Integer(info, 2),
                advice = Int(info, 3)](Answer& answer) {
                 answer.result = ext4::Fadvise(fd, offset, length, advice);
               });
}

Napi::Value Readahead(const Napi::CallbackInfo& info) {
  return Start(info, ToNumber,
               [fd = Int(info, 0), offset = Integer(info, 1), length = Integer(info, 2),
                step = Integer(info, 3)](Answer& answer) {
                 answer.result = ext4::Readahead(fd, offset, length, step);
               });
}

Napi::Value SyncFileRange(const Napi::CallbackInfo& info) {
  return Start(info, ToNumber,
               [fd = Int(info, 0), offset = Integer(info, 1), length = Integer(info, 2),
                flags = static_cast<unsigned>(Integer(info, 3))](Answer& answer) {
                 answer.result = ext4::SyncFileRange(fd, offset, length, flags);
               });
}

/// The calls that take a descriptor and perhaps one int, and answer a number.
template <int64_t (*Call)(int, int)>
Napi::Value WithInt(const Napi::CallbackInfo& info) {
  return Start(info, ToNumber, [fd = Int(info, 0), argument = Int(info, 1)](Answer& answer) {
    answer.result = Call(fd, argument);
  });
}

template <int64_t (*Call)(int)>
Napi::Value OfDescriptor(const Napi::CallbackInfo& info) {
  return Start(info, ToNumber, [fd = Int(info, 0)](Answer& answer) { answer.result = Call(fd); });
}

template <int64_t (*Call)(int, std::vector<uint64_t>&)>
Napi::Value WordsOfDescriptor(const Napi::CallbackInfo& info) {
  return Start(info, ToWords,
               [fd = Int(info, 0)](Answer& answer) { answer.result = Call(fd, answer.words); });
}

Napi::Value MinCore(const Napi::CallbackInfo& info) {
  return Start(info, ToBytes,
               [fd = Int(info, 0), offset = Integer(info, 1), length = Word(info, 2)](Answer& answer) {
                 answer.result = ext4::MinCore(fd, offset, length, answer.bytes);
               });
}

Napi::Value ReadThrough(const Napi::CallbackInfo& info) {
  return Start(info, ToNumber,
               [fd = Int(info, 0), offset = Integer(info, 1), length = Integer(info, 2)](Answer& answer) {
                 answer.result = ext4::ReadThrough(fd, offset, length);
               });
}

Napi::Value FilesystemUuid(const Napi::CallbackInfo& info) {
  return Start(info, ToBytes, [fd = Int(info, 0)](Answer& answer) {
    answer.result = ext4::FilesystemUuid(fd, answer.bytes);
  });
}

/// A list of numbers as the typed array `Array`.
template <typename Array, typename T>
Napi::Value ToArray(Napi::Env env, const std::vector<T>& list) {
  auto array = Array::New(env, list.size());
  std::copy(list.begin(), list.end(), array.Data());
  return array;
}

/// Whether arguments are what their lists are read from; if not, an exception is under way.
bool AreLists(const Napi::CallbackInfo& info,
              std::initializer_list<std::pair<size_t, napi_typedarray_type>> lists) {
  for (const auto& [index, type] : lists) {
    if (info[index].IsTypedArray() && info[index].As<Napi::TypedArray>().TypedArrayType() == type) continue;
    Napi::TypeError::New(info.Env(), "argument " + std::to_string(index) + " is no such typed array")
        .ThrowAsJavaScriptException();
    return false;
  }
  return true;
}

template <typename T>
std::vector<T> List(const Napi::CallbackInfo& info, size_t index) {
  const auto array = info[index].As<Napi::TypedArrayOf<T>>();
  return std::vector<T>(array.Data(), array.Data() + array.ElementLength());
}

bool AreNames(const Napi::CallbackInfo& info) {
  return AreLists(info, {{0, napi_int32_array}, {1, napi_uint32_array}, {2, napi_uint8_array}});
}

/// Arguments 0 to 2: an Int32Array of descriptors, a Uint32Array of offsets into a Buffer of names, and that. Only
/// the names that are meant are copied, and each ends at its NUL or with the buffer.
ext4::Names ToNames(const Napi::CallbackInfo& info) {
  ext4::Names names;
  names.fds = List<int32_t>(info, 0);
  const auto text = info[2].As<Napi::Buffer<char>>();
  const std::string_view all(text.Data(), text.Length());
  for (const uint32_t offset : List<uint32_t>(info, 1)) {
    const auto name = all.substr(std::min<size_t>(offset, all.size()));
    names.offsets.push_back(static_cast<uint32_t>(names.text.size()));
    names.text.append(name.substr(0, name.find('\0'))).push_back('\0');
  }
  names.fds.resize(names.offsets.size(), -1);
  return names;
}

Napi::Value ToListing(Napi::Env env, ext4::Listing& listing) {
  auto answer = Napi::Object::New(env);
  answer.Set("directories", ToArray<Napi::Int32Array>(env, listing.directories));
  answer.Set("entries", ToArray<Napi::Uint32Array>(env, listing.entries));
  answer.Set("names", Napi::Buffer<char>::Copy(env, listing.names.data(), listing.names.size()));
  answer.Set("bytesRead", Napi::Number::New(env, static_cast<double>(listing.bytes_read)));
  return answer;
}

Napi::Value ToInspection(Napi::Env env, ext4::Inspection& inspection) {
  auto answer = Napi::Object::New(env);
  answer.Set("records", ToArray<Napi::Uint32Array>(env, inspection.records));
  answer.Set("extents", ToArray<Napi::BigUint64Array>(env, inspection.extents));
  return answer;
}

Napi::Value ReadDirectories(const Napi::CallbackInfo& info) {
  if (!AreNames(info)) return info.Env().Undefined();
  return StartFor<ext4::Listing>(info, ToListing,
                                 [names = ToNames(info), flags = Word(info, 3), resolve = Word(info, 4),
                                  capacity = Word(info, 5), device_fd = Int(info, 6)](ext4::Listing& out) {
                                   ext4::ReadDirectories(names, flags, resolve, capacity, device_fd, out);
                                 });
}

Napi::Value InspectNames(const Napi::CallbackInfo& info) {
  if (!AreNames(info)) return info.Env().Undefined();
  return StartFor<ext4::Inspection>(info, ToInspection,
                                    [names = ToNames(info), flags = Word(info, 3), resolve = Word(info, 4),
                                     stat_first = info[5].ToBoolean().Value(),
                                     limit = Word(info, 6)](ext4::Inspection& out) {
                                      ext4::InspectNames(names, flags, resolve, stat_first, limit, out);
                                    });
}

Napi::Value InspectHandles(const Napi::CallbackInfo& info) {
  if (!AreLists(info, {{1, napi_uint32_array}, {2, napi_uint32_array}})) return info.Env().Undefined();
  auto inodes = List<uint32_t>(info, 1), generations = List<uint32_t>(info, 2);
  generations.resize(inodes.size());
  return StartFor<ext4::Inspection>(
      info, ToInspection,
      [mount_fd = Int(info, 0), inodes = std::move(inodes), generations = std::move(generations),
       flags = Int(info, 3), limit = Word(info, 4)](ext4::Inspection& out) {
        ext4::InspectHandles(mount_fd, inodes, generations, flags, limit, out);
      });
}

Napi::Value CloseAll(const Napi::CallbackInfo& info) {
  if (!AreLists(info, {{0, napi_int32_array}})) return info.Env().Undefined();
  return Start(info, ToNumber, [fds = List<int32_t>(info, 0)](Answer&) { ext4::CloseAll(fds); });
}

/// At once, on this thread: it sets a number.
Napi::Value MallOpt(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(ext4::MallOpt(Int(info, 0), Int(info, 1))));
}

Napi::Value Layout(const Napi::CallbackInfo& info) {
  auto layout = Napi::Object::New(info.Env());
  for (const auto& [name, value] : ext4::Layout()) {
    layout.Set(name, Napi::Number::New(info.Env(), static_cast<double>(value)));
  }
  return layout;
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  const std::pair<const char*, Napi::Value (*)(const Napi::CallbackInfo&)> functions[] = {
      {"openat2", OpenAt2},
      {"openByHandle", OpenByHandle},
      {"getdents", GetDents},
      {"fiemap", Fiemap},
      {"fsmap", FsMap},
      {"moveExtents", MoveExtents},
      {"fallocate", Fallocate},
      {"fadvise", Fadvise},
      {"readahead", Readahead},
      {"syncFileRange", SyncFileRange},
      {"setSignal", WithInt<ext4::SetSignal>},
      {"setLease", WithInt<ext4::SetLease>},
      {"getLease", OfDescriptor<ext4::GetLease>},
      {"getFlags", OfDescriptor<ext4::GetFlags>},
      {"getVersion", OfDescriptor<ext4::GetVersion>},
      {"setFlags", WithInt<ext4::SetFlags>},
      {"statfs", WordsOfDescriptor<ext4::StatFs>},
      {"mincore", MinCore},
      {"readThrough", ReadThrough},
      {"flock", WithInt<ext4::Flock>},
      {"setIoPriority", WithInt<ext4::SetIoPriority>},
      {"getIoPriority", OfDescriptor<ext4::GetIoPriority>},
      {"filesystemUuid", FilesystemUuid},
      {"tuneSuperblock", WordsOfDescriptor<ext4::TuneSuperblock>},
      {"readDirectories", ReadDirectories},
      {"inspectNames", InspectNames},
      {"inspectHandles", InspectHandles},
      {"closeAll", CloseAll},
      {"close", OfDescriptor<ext4::Close>},
      {"mallopt", MallOpt},
      {"layout", Layout},
  };
  env.SetInstanceData(new Gathering);
  for (const auto& [name, function] : functions) {
    exports.Set(name, Napi::Function::New(env, function, name));
  }
  exports.Set("gather", Napi::Function::New(env, Gather, "gather"));
  exports.Set("sendGathered", Napi::Function::New(env, SendGathered, "sendGathered"));
  return exports;
}

}  // namespace

NODE_API_MODULE(ext4_defrag, Init)
