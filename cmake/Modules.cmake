# The two functions that declare everything: a module (static library) and its tests.

# One precompiled header (ATen and autograd) shared by all modules, tests and the app: it turns 10-17 s per file into about 2 s.
file(WRITE ${CMAKE_BINARY_DIR}/pch.cpp "// Exists only to own the precompiled header.\n")
add_library(emulsion_pch OBJECT ${CMAKE_BINARY_DIR}/pch.cpp)
target_link_libraries(emulsion_pch PUBLIC emulsion_torch)
target_precompile_headers(emulsion_pch PRIVATE ${CMAKE_SOURCE_DIR}/cmake/pch.h)

# emulsion_module(<name> DEPENDS <modules> LINKS <targets>): every src/<name>/**.cpp in one static library.
# The presets release and asan compile six files of a target at a time (a unity build): loading the header and instantiating
# templates once for six halves the time. So no two files of a module share a name in their anonymous namespaces.
function(emulsion_module name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;LINKS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.cpp)
  if(NOT sources)  # a module that has only headers so far
    set(sources ${CMAKE_BINARY_DIR}/pch.cpp)
  endif()
  # What core/clones.h says. Options of their own also keep these files out of the unity build.
  set(loops ${sources})
  list(FILTER loops INCLUDE REGEX "_loops[.]cpp$")
  set_source_files_properties(${loops} PROPERTIES SKIP_PRECOMPILE_HEADERS ON
    COMPILE_OPTIONS "-O3;-ffp-contract=off;-fno-trapping-math")
  add_library(emulsion_${name} STATIC ${sources})
  target_include_directories(emulsion_${name} PUBLIC ${CMAKE_SOURCE_DIR}/src)
  target_precompile_headers(emulsion_${name} REUSE_FROM emulsion_pch)
  list(TRANSFORM ARG_DEPENDS PREPEND emulsion_)
  target_link_libraries(emulsion_${name} PUBLIC emulsion_torch ${ARG_DEPENDS} PRIVATE ${ARG_LINKS})
endfunction()

# emulsion_tests(<name> LABEL <fast|slow|e2e> [LINKS <targets>]): tests/<name>/*_test.cpp in one program.
function(emulsion_tests name)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "LINKS;SOURCES" ${ARGN})
  if(NOT ARG_SOURCES)
    file(GLOB ARG_SOURCES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/${name}/*_test.cpp)
  endif()
  if(NOT ARG_SOURCES)
    return()
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 600)
  endif()
  add_executable(test_${name} ${ARG_SOURCES})
  target_precompile_headers(test_${name} REUSE_FROM emulsion_pch)
  target_include_directories(test_${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests)
  target_link_libraries(test_${name} PRIVATE ${ARG_LINKS} emulsion_test_support)
  set(environment "EMULSION_SOURCE_DIR=${CMAKE_SOURCE_DIR};EMULSION_BINARY=$<TARGET_FILE:emulsion>")
  if(EMULSION_SANITIZE)  # every finding ends a program with a code that no test expects
    math(EXPR ARG_TIMEOUT "${ARG_TIMEOUT} * 4")
    list(APPEND environment "ASAN_OPTIONS=exitcode=99:detect_stack_use_after_return=1"
      "UBSAN_OPTIONS=halt_on_error=1:exitcode=99:print_stacktrace=1"
      "LSAN_OPTIONS=exitcode=99:suppressions=${CMAKE_SOURCE_DIR}/tests/support/leaks.supp:print_suppressions=0")
  endif()
  add_test(NAME ${name} COMMAND test_${name})
  set_tests_properties(${name} PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT} ENVIRONMENT "${environment}")
endfunction()
