# Adds the kernels of csrc/torch that are compiled for AVX-512, and called where the CPU has it, to
# a target of the calling folder. They need no torch.
function(corestream_avx512_kernels target)
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    return()
  endif()
  set(folder ${PROJECT_SOURCE_DIR}/csrc/torch)
  # GCC warns of variables in its own header (https://gcc.gnu.org/bugzilla/show_bug.cgi?id=105593).
  set(fp32 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mprfchw
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized;-Wno-uninitialized>)
  set(bf16 ${fp32} -mavx512bf16)
  foreach(elements IN ITEMS fp32 bf16)
    foreach(kernel IN ITEMS attention convolution)
      set(source ${folder}/${kernel}_${elements}_avx512.cpp)
      target_sources(${target} PRIVATE ${source})
      set_source_files_properties(${source} PROPERTIES
        COMPILE_OPTIONS "${${elements}}" SKIP_PRECOMPILE_HEADERS ON)
    endforeach()
  endforeach()
endfunction()
