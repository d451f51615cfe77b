# Language, warnings, sanitizers and output folders for every target of the project.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
# Our own asserts (MB_ASSERT) stay on in release builds. No -ffast-math anywhere: overflow detection relies on
# isfinite. No contraction in portable code either, so that one source gives the same bits for every instruction set.
set(CMAKE_CXX_FLAGS_RELEASE "-O2")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O1 -g1 -fno-omit-frame-pointer")  # line numbers are enough for a sanitizer
add_compile_options(-Wall -Wextra -Wno-unused-parameter)
if(MINIBERT_SANITIZE AND NOT MINIBERT_FUZZ)  # tests/fuzz/CMakeLists.txt says which floors of these are checked
  set(MINIBERT_SANITIZE_FLAG -fsanitize=${MINIBERT_SANITIZE})
  add_compile_options(-fsanitize=${MINIBERT_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${MINIBERT_SANITIZE})
endif()
