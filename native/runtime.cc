// The little of the C++ library that templates leave to be linked, so that the addon needs nothing but a C library:
// one binary serves glibc and musl, whatever libstdc++ there is. Nothing is thrown here: what would be ends the process,
// as it would without exceptions anyway.
#include <cstdarg>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <new>

namespace {

[[noreturn]] void Fail(const char* what) {
  std::fprintf(stderr, "ext4-defrag: addon: %s\n", what);
  std::abort();
}

void* Allocate(std::size_t size) {
  void* memory = std::malloc(size > 0 ? size : 1);
  if (memory == nullptr) Fail("out of memory");
  return memory;
}

}  // namespace

void* operator new(std::size_t size) { return Allocate(size); }
void* operator new[](std::size_t size) { return Allocate(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

extern "C" void __cxa_pure_virtual() { Fail("pure virtual call"); }

// bits/functexcept.h, and std_function.h: what the headers of libstdc++ call instead of throwing themselves.
namespace std {
void __throw_bad_alloc() { Fail("bad_alloc"); }
void __throw_bad_array_new_length() { Fail("bad_array_new_length"); }
void __throw_bad_function_call() { Fail("bad_function_call"); }
void __throw_logic_error(const char* what) { Fail(what); }
void __throw_length_error(const char* what) { Fail(what); }
void __throw_out_of_range_fmt(const char* format, ...) {
  char what[256];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(what, sizeof what, format, arguments);
  va_end(arguments);
  Fail(what);
}
}  // namespace std
