// A Node addon that makes the mistake that MISTAKE names when it is loaded: so that it is known what the sanitizers
// that the real addon is built with would do about it (test/support/sanitized.mjs).
#include <limits.h>
#include <node_api.h>
#include <stdlib.h>
#include <string.h>

napi_value napi_register_module_v1(napi_env env, napi_value exports) {
  (void)env;
  const char *mistake = getenv("MISTAKE");
  if (mistake == NULL) return exports;
  if (strcmp(mistake, "overflow") == 0) {
    // Of a size that the compiler does not know, or UBSan is the first to see it.
    volatile size_t size = 8;
    volatile char *eight = malloc(size);
    eight[size] = 1;
    free((void *)eight);
  } else if (strcmp(mistake, "after-free") == 0) {
    volatile char *gone = malloc(8);
    free((void *)gone);
    gone[0] = 1;
  } else if (strcmp(mistake, "undefined") == 0) {
    volatile int most = INT_MAX;
    most += 1;
  }
  return exports;
}
