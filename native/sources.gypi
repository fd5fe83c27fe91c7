{
  "variables": {
    "ops_sources": [
      "native/dispatch/cpu.cc",
      "native/dispatch/dispatch.cc",
      "native/parallel/start_thread.cc",
      "native/parallel/thread_pool.cc",
      "native/ops/statistics.cc",
      "native/ops/normalize.cc",
      "native/ops/backward.cc",
      "native/ops/runs.cc",
      "native/ops/elements.cc",
      "native/ops/columns.cc",
      "native/ops/local_response.cc",
      "native/ops/images.cc",
      "native/ops/tally.cc"
    ],
    "distributed_sources": [
      "native/distributed/mpi.cc",
      "native/distributed/mpi_library.cc",
      "native/distributed/runner.cc"
    ],
    "bindings_sources": [
      "native/bindings/arguments.cc",
      "native/bindings/async.cc",
      "native/bindings/group.cc",
      "native/bindings/memory.cc",
      "native/bindings/mpi.cc",
      "native/bindings/host_windows.cc",
      "native/bindings/stay_loaded.cc",
      "native/bindings/addon.cc"
    ],
    "wasm_left_out": [
      "native/parallel/start_thread.cc",
      "native/parallel/thread_pool.cc",
      "native/bindings/async.cc",
      "native/bindings/group.cc",
      "native/bindings/mpi.cc",
      "native/bindings/host_windows.cc",
      "native/bindings/stay_loaded.cc"
    ],
    "wasm_sources": ["native/parallel/thread_pool_single.cc"],
    "common_cflags": [
      "-std=c++17",
      "-O3",
      "-fPIC",
      "-fvisibility=hidden",
      "-fno-exceptions",
      "-fno-rtti",
      "-fno-lto",
      "-ffp-contract=off",
      "-fno-math-errno",
      "-Wall",
      "-Wextra",
      "-Wno-psabi"
    ],
    "defines": [
      "NAPI_VERSION=8",
      "NAPI_DISABLE_CPP_EXCEPTIONS",
      "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"
    ],
    "isa_x64": ["avx512", "avx2", "portable"],
    "isa_arm64": ["neon", "portable"],
    "isa_other": ["portable"],
    "isa_wasm": ["simd128"],
    "isa_portable_sources": ["native/kernels/portable.cc"],
    "isa_portable_cflags": [],
    "isa_avx2_sources": ["native/kernels/avx2.cc"],
    "isa_avx2_cflags": ["-mavx2", "-mf16c"],
    "isa_avx512_sources": ["native/kernels/avx512.cc"],
    "isa_avx512_cflags": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512", "-Wno-uninitialized", "-Wno-maybe-uninitialized"],
    "isa_neon_sources": ["native/kernels/neon.cc"],
    "isa_neon_cflags": [],
    "isa_simd128_sources": ["native/kernels/simd128.cc"],
    "isa_simd128_cflags": ["-msimd128"]
  }
}
