# Adds the kernels of csrc/torch that are compiled for AVX-512, and called where the CPU has it, to
# a target of the calling folder. They need no torch.
function(corestream_avx512_kernels target)
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    return()
  endif()
  set(folder ${PROJECT_SOURCE_DIR}/csrc/torch)
  # GCC warns of variables in its own header (https://gcc.gnu.org/bugzilla/show_bug.cgi?id=105593).
  set(avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  target_sources(${target} PRIVATE
    ${folder}/attention_bf16_avx512.cpp ${folder}/attention_fp32_avx512.cpp)
  set_source_files_properties(${folder}/attention_fp32_avx512.cpp PROPERTIES
    COMPILE_OPTIONS "${avx512}" SKIP_PRECOMPILE_HEADERS ON)
  set_source_files_properties(${folder}/attention_bf16_avx512.cpp PROPERTIES
    COMPILE_OPTIONS "${avx512};-mavx512bf16" SKIP_PRECOMPILE_HEADERS ON)
endfunction()
