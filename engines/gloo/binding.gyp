# The optional addon of Gloo groups, against the system's libgloo: npm run build:gloo.
{
  'includes': ['../../native/sources.gypi'],
  'targets': [
    {
      'target_name': 'simdnorm_gloo',
      'sources': [
        'addon.cc',
        'engine.cc',
        '../../native/bindings/group.cc',
        '../../native/distributed/runner.cc',
        '../../native/parallel/start_thread.cc',
      ],
      'include_dirs': ['../..'],
      'defines': ['<@(defines)'],
      'cflags_cc!': ['-std=gnu++17', '-std=gnu++20', '-fno-exceptions', '-fno-rtti'],
      'cflags_cc': ['-std=c++17', '-O2', '-fexceptions', '-frtti', '-fvisibility=hidden', '-Wall', '-Wextra'],
      'libraries': ['-lgloo'],
      'ldflags': ['-Wl,-z,nodelete', '-Wl,-Bsymbolic'],
    },
  ],
}
