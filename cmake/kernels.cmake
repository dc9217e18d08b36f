# Adds the kernels of csrc/torch that are compiled for an instruction set, and called where the CPU
# has it, to a target of the calling folder. They need no torch.
function(corestream_kernels target)
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    return()
  endif()
  set(fp32_avx2 -mavx2 -mfma -mprfchw)
  # GCC warns of variables in its own header (https://gcc.gnu.org/bugzilla/show_bug.cgi?id=105593).
  set(fp32_avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mprfchw
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized;-Wno-uninitialized>)
  set(bf16_avx512 ${fp32_avx512} -mavx512bf16)
  foreach(kind IN ITEMS fp32_avx2 fp32_avx512 bf16_avx512)
    set(kernels attention convolution lstm pool product)
    # Its sums of unlike numbers need more than bf16's 8 bits.
    if(NOT "${kind}" STREQUAL "bf16_avx512")
      list(APPEND kernels winograd)
    endif()
    foreach(kernel IN LISTS kernels)
      set(source ${PROJECT_SOURCE_DIR}/csrc/torch/${kernel}_${kind}.cpp)
      target_sources(${target} PRIVATE ${source})
      set_source_files_properties(${source} PROPERTIES
        COMPILE_OPTIONS "${${kind}}" SKIP_PRECOMPILE_HEADERS ON)
    endforeach()
  endforeach()
endfunction()
