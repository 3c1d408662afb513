# emulsion::torch: LibTorch from the pip wheel, linked directly.
#
# find_package(Torch) is not used: on a CUDA wheel it demands the CUDA toolkit. The CPU library and c10 are
# all that a build needs; src/core/device.cpp loads libtorch_cuda at run time where it is present.
set(EMULSION_TORCH_VERSION 2.13.0)
set(EMULSION_LIBTORCH "$ENV{EMULSION_LIBTORCH}" CACHE PATH "LibTorch: the folder that holds include/ and lib/")
if(NOT EMULSION_LIBTORCH)
  set(EMULSION_LIBTORCH ${CMAKE_SOURCE_DIR}/.deps/python/torch)
endif()

if(NOT EXISTS ${EMULSION_LIBTORCH}/lib/libtorch_cpu.so)
  message(FATAL_ERROR "No LibTorch at ${EMULSION_LIBTORCH} (expected lib/libtorch_cpu.so there).\n"
    "Run ./setup, which installs version ${EMULSION_TORCH_VERSION}, or point EMULSION_LIBTORCH at one.")
endif()

file(STRINGS ${EMULSION_LIBTORCH}/include/torch/headeronly/version.h torch_version_lines
     REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
string(REGEX REPLACE "[^0-9]+" "." torch_version "${torch_version_lines}")
string(REGEX REPLACE "^\\.|\\.$" "" torch_version "${torch_version}")
if(NOT torch_version STREQUAL EMULSION_TORCH_VERSION)
  message(WARNING "LibTorch ${torch_version} at ${EMULSION_LIBTORCH} is not the tested version "
    "${EMULSION_TORCH_VERSION}: numbers and speed may differ, and the build may fail.")
endif()

add_library(emulsion_torch INTERFACE)
add_library(emulsion::torch ALIAS emulsion_torch)
# The wheel's include folder carries an fmt of its own, newer than the one Debian's spdlog was built with:
# a link named fmt, searched first, keeps the two apart.
find_path(FMT_INCLUDE fmt/format.h PATHS /usr/include NO_DEFAULT_PATH REQUIRED)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/first)
file(CREATE_LINK ${FMT_INCLUDE}/fmt ${CMAKE_BINARY_DIR}/first/fmt SYMBOLIC)
target_include_directories(emulsion_torch SYSTEM INTERFACE
  ${CMAKE_BINARY_DIR}/first ${EMULSION_LIBTORCH}/include)
target_link_libraries(emulsion_torch INTERFACE
  ${EMULSION_LIBTORCH}/lib/libtorch_cpu.so ${EMULSION_LIBTORCH}/lib/libc10.so)

# at::parallel_for is a template: compiled without OpenMP it runs in one thread, silently. The threads must be
# LibTorch's own, so its copy of libgomp is linked where the wheel brings one.
# clang, which builds only the fuzz targets, would want an OpenMP of its own.
target_compile_options(emulsion_torch INTERFACE $<$<CXX_COMPILER_ID:GNU>:-fopenmp>)
# As the wheel is compiled: some of ATen's classes have further members without it (at::RecordFunction does).
target_compile_definitions(emulsion_torch INTERFACE NDEBUG)
file(GLOB torch_gomp ${EMULSION_LIBTORCH}/lib/libgomp*.so*)
if(torch_gomp)
  target_link_libraries(emulsion_torch INTERFACE ${torch_gomp})
else()
  target_link_libraries(emulsion_torch INTERFACE gomp)
endif()
target_link_options(emulsion_torch INTERFACE "-Wl,-rpath,${EMULSION_LIBTORCH}/lib"
  "-Wl,--disable-new-dtags" "-Wl,-rpath-link,${EMULSION_LIBTORCH}/lib" "-Wl,--allow-shlib-undefined")
