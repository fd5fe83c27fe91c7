# What the instruction sets share: one static library each, because in gyp a flag belongs to a target.
{
  'type': 'static_library',
  'win_delay_load_hook': 'false',  # node-gyp would add a source of its own, compiled with these flags
  'include_dirs': ['.', '..'],
  'sources': ['<@(isa_sources)'],
  'cflags_cc!': ['-std=gnu++17', '-std=gnu++20'],
  'cflags_cc': ['<@(common_cflags)', '<@(isa_cflags)'],
  'xcode_settings': {
    'OTHER_CPLUSPLUSFLAGS': ['<@(common_cflags)', '<@(isa_cflags)'],
    'MACOSX_DEPLOYMENT_TARGET': '11.0',
  },
}
