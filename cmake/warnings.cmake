# For our own targets; torch's headers come in as SYSTEM.
function(corestream_warnings target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow)
endfunction()
