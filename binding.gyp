{
  "targets": [
    {
      "target_name": "ext4_defrag",
      "sources": ["native/binding.cc", "native/syscalls.cc", "native/walk.cc"],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=9", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_ADDON_API_DISABLE_DEPRECATED", "_FILE_OFFSET_BITS=64"],
      "cflags": ["-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"],
      "cflags_cc": ["-std=c++20", "-fno-exceptions"],
      "cflags!": ["-Wno-unused-parameter"],
      "conditions": [
        # One binary for glibc and musl: it names no library, and takes what it needs from the C library that Node has
        # loaded. So no libstdc++, and no names that only one of them has: open64 (an off_t has 64 bits there anyway),
        # __getauxval.
        ["target_arch in ('x64', 'arm64')", {
          "sources": ["native/runtime.cc"],
          "defines": ["_GLIBCXX_EXTERN_TEMPLATE=0"],
          "defines!": ["_FILE_OFFSET_BITS=64"],
          "ldflags": ["-nodefaultlibs", "-Wl,--version-script=<(module_root_dir)/native/exports.map"],
          "libraries": ["-lgcc"],
        }],
        ["target_arch == 'arm64'", {"cflags": ["-mno-outline-atomics"]}],
      ],
    }
  ]
}
