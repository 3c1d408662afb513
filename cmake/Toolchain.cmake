# Compiler and linker settings that hold for every target.
add_compile_options(-Wall -Wextra -Wno-unused-parameter -pthread)
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -ftree-vectorize -fvect-cost-model=dynamic -fno-math-errno")

set(EMULSION_SANITIZE "" CACHE STRING "Sanitizers, e.g. address,undefined")
if(EMULSION_SANITIZE)
  add_compile_options(-fsanitize=${EMULSION_SANITIZE} -fno-sanitize=vptr -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${EMULSION_SANITIZE} -fno-sanitize=vptr)
endif()

find_program(CCACHE ccache)
if(CCACHE)
  # The sloppiness and -fpch-preprocess are what lets ccache cache files that use a precompiled header.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${CCACHE})
  add_compile_options($<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)
endif()

find_program(MOLD ld.mold)
if(MOLD)
  add_link_options(-fuse-ld=mold)
endif()
