# CORESTREAM_SANITIZE=thread or address,undefined: for the native tests of the core.
set(CORESTREAM_SANITIZE "" CACHE STRING "Sanitizers, as -fsanitize= takes them")
if(CORESTREAM_SANITIZE)
  add_compile_options(-fsanitize=${CORESTREAM_SANITIZE} -fno-omit-frame-pointer -g)
  add_link_options(-fsanitize=${CORESTREAM_SANITIZE})
endif()
