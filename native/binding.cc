// Node-API glue: arguments are copied out of JavaScript on the main thread, the system call runs on a worker
// thread, and its answer (a value or -errno) resolves a promise. Nothing here decides anything.
#include <napi.h>

#include <functional>
#include <utility>

#include "syscalls.h"

namespace {

/// What a system call left: its result, and words or bytes for the calls that answer more than a number.
struct Answer {
  int64_t result = 0;
  std::vector<uint64_t> words;
  std::vector<uint8_t> bytes;
};

using Operation = std::function<void(Answer&)>;
using Convert = Napi::Value (*)(Napi::Env, Answer&);

class Worker final : public Napi::AsyncWorker {
 public:
  Worker(Napi::Env env, Operation operation, Convert convert)
      : Napi::AsyncWorker(env),
        deferred_(Napi::Promise::Deferred::New(env)),
        operation_(std::move(operation)),
        convert_(convert) {}

  Napi::Promise Promise() const { return deferred_.Promise(); }

 protected:
  void Execute() override { operation_(answer_); }
  void OnOK() override { deferred_.Resolve(convert_(Env(), answer_)); }
  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

 private:
  Napi::Promise::Deferred deferred_;
  Operation operation_;
  Convert convert_;
  Answer answer_;
};

Napi::Value Start(const Napi::CallbackInfo& info, Convert convert, Operation operation) {
  auto* worker = new Worker(info.Env(), std::move(operation), convert);
  const Napi::Promise promise = worker->Promise();
  worker->Queue();
  return promise;
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
                 answer.result = ext4::OpenAt2(dir_fd, path, flags, mode, resolve);
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

Napi::Value CacheStat(const Napi::CallbackInfo& info) {
  return Start(info, ToWords,
               [fd = Int(info, 0), offset = Word(info, 1), length = Word(info, 2)](Answer& answer) {
                 answer.result = ext4::CacheStat(fd, offset, length, answer.words);
               });
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
      {"moveExtents", MoveExtents},
      {"fallocate", Fallocate},
      {"fadvise", Fadvise},
      {"readahead", Readahead},
      {"syncFileRange", SyncFileRange},
      {"setSignal", WithInt<ext4::SetSignal>},
      {"setLease", WithInt<ext4::SetLease>},
      {"getLease", OfDescriptor<ext4::GetLease>},
      {"getFlags", OfDescriptor<ext4::GetFlags>},
      {"setFlags", WithInt<ext4::SetFlags>},
      {"statfs", WordsOfDescriptor<ext4::StatFs>},
      {"cachestat", CacheStat},
      {"tuneSuperblock", WordsOfDescriptor<ext4::TuneSuperblock>},
      {"layout", Layout},
  };
  for (const auto& [name, function] : functions) {
    exports.Set(name, Napi::Function::New(env, function, name));
  }
  return exports;
}

}  // namespace

NODE_API_MODULE(ext4_defrag, Init)
