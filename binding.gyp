# What `npm install` in a clone and prebuildify build. CMakeLists.txt builds the same; both read native/sources.gypi.
{
  'includes': ['native/sources.gypi'],
  'targets': [
    {
      'target_name': 'simdnorm',
      'sources': ['<@(ops_sources)', '<@(distributed_sources)', '<@(bindings_sources)'],
      'include_dirs': ['.', 'native/headers/node-addon-api'],
      'defines': ['<@(defines)'],
      'cflags!': ['-fno-omit-frame-pointer'],
      'cflags_cc!': ['-std=gnu++17', '-std=gnu++20'],
      'cflags_cc': ['<@(common_cflags)'],
      'ldflags': [
        '-Wl,-z,nodelete',
        '-Wl,-Bsymbolic',
        '-Wl,--version-script=<(module_root_dir)/native/exports.map',
      ],
      'xcode_settings': {
        'OTHER_CPLUSPLUSFLAGS': ['<@(common_cflags)'],
        'MACOSX_DEPLOYMENT_TARGET': '11.0',
      },
      'conditions': [
        ['OS=="linux"', {'libraries': ['-ldl']}],
        ['target_arch=="x64"', {'dependencies': ['isa_avx512', 'isa_avx2', 'isa_portable']}],
        ['target_arch=="arm64"', {'dependencies': ['isa_neon', 'isa_portable']}],
        ['target_arch!="x64" and target_arch!="arm64"', {'dependencies': ['isa_portable']}],
      ],
    },
    {
      'target_name': 'isa_portable',
      'variables': {'isa_sources': ['<@(isa_portable_sources)'], 'isa_cflags': ['<@(isa_portable_cflags)']},
      'includes': ['native/isa.gypi'],
    },
  ],
  'conditions': [
    ['target_arch=="x64"', {
      'targets': [
        {
          'target_name': 'isa_avx2',
          'variables': {'isa_sources': ['<@(isa_avx2_sources)'], 'isa_cflags': ['<@(isa_avx2_cflags)']},
          'includes': ['native/isa.gypi'],
        },
        {
          'target_name': 'isa_avx512',
          'variables': {'isa_sources': ['<@(isa_avx512_sources)'], 'isa_cflags': ['<@(isa_avx512_cflags)']},
          'includes': ['native/isa.gypi'],
        },
      ],
    }],
    ['target_arch=="arm64"', {
      'targets': [
        {
          'target_name': 'isa_neon',
          'variables': {'isa_sources': ['<@(isa_neon_sources)'], 'isa_cflags': ['<@(isa_neon_cflags)']},
          'includes': ['native/isa.gypi'],
        },
      ],
    }],
  ],
}
