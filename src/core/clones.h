// One function compiled for several instruction sets; the dynamic linker picks the best at load.
//
// For plain loops over arrays, in files of their own named *_loops.cpp: cmake/Modules.cmake compiles those so that
// GCC turns the loops into vector code (a branch that depends on a comparison of floats else prevents it) and never
// fuses multiply-adds (it fuses differently in a loop's vector body and in its scalar ends, and then the bits depend
// on where an array lies).
#pragma once

// Sanitizers cannot run the resolver that picks one.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#define EMULSION_CLONES __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define EMULSION_CLONES
#endif
