# MINIBERT_CUDA says what becomes of the kernels' .cu files: off (left out), cuda (nvcc, for GPUs), or simt (g++, run on the CPU by
# tools/simt: needs NVIDIA's headers, neither nvcc nor a GPU). Where they are off, core/kernels/cuda_absent.cpp answers.
# minibert_add_cuda(target folder) is called by minibert_floor for each floor. Whatever includes NVIDIA's headers links
# MINIBERT_CUDA_LIBRARIES.
set(MINIBERT_CUDA off CACHE STRING "CUDA kernels: off, cuda (nvcc) or simt (on the CPU)")
set_property(CACHE MINIBERT_CUDA PROPERTY STRINGS off cuda simt)
set(MINIBERT_CUDA_TARGETS "80;90a" CACHE STRING "Chips that nvcc compiles for, as in sm_80; with 80 its PTX too, for later chips")
if(NOT MINIBERT_CUDA MATCHES "^(off|cuda|simt)$")
  message(FATAL_ERROR "MINIBERT_CUDA is ${MINIBERT_CUDA}, expected off, cuda or simt")
endif()

if(MINIBERT_CUDA STREQUAL cuda)
  enable_language(CUDA)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 has not heard that nvcc 12 and later know it
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)  # as cuBLASLt and NCCL: one runtime a process
  set(MINIBERT_CUDA_LIBRARIES CUDA::cudart CUDA::cublasLt)
  find_package(CUDAToolkit REQUIRED)
  set(CMAKE_CUDA_ARCHITECTURES OFF)  # in full instead: ptxas takes wgmma for 90a only; PTX of compute_80 serves later chips
  set(CMAKE_CUDA_FLAGS_RELEASE "")
  set(MINIBERT_CUDA_OPTIONS -O3 -lineinfo)
  foreach(chip ${MINIBERT_CUDA_TARGETS})
    if(chip STREQUAL 80)
      list(APPEND MINIBERT_CUDA_OPTIONS --generate-code=arch=compute_80,code=[sm_80,compute_80])
    else()
      list(APPEND MINIBERT_CUDA_OPTIONS --generate-code=arch=compute_${chip},code=sm_${chip})
    endif()
  endforeach()
  list(APPEND MINIBERT_CUDA_OPTIONS -Xptxas=-v,--warn-on-spills)
elseif(MINIBERT_CUDA STREQUAL simt)
  find_package(CUDAToolkit QUIET)
  find_path(MINIBERT_CUDA_INCLUDE_DIR cuda_runtime_api.h HINTS ${CUDAToolkit_INCLUDE_DIRS} PATHS /usr/local/cuda/include /opt/cuda/include)
  if(NOT MINIBERT_CUDA_INCLUDE_DIR)
    message(FATAL_ERROR "MINIBERT_CUDA=simt needs NVIDIA's headers, and cuda_runtime_api.h is not found. Install a CUDA toolkit, or set MINIBERT_CUDA_INCLUDE_DIR")
  endif()
  # As the kernels are written for nvcc: they read one type as another, and unroll by pragmas.
  set(MINIBERT_CUDA_LIBRARIES simt_engine simt_cublaslt simt_runtime)
  set(MINIBERT_SIMT_OPTIONS -xc++ -fno-strict-aliasing -Wno-unknown-pragmas)
endif()

# Compiles .cu files as this build does: as CUDA, or as C++ for the engine.
function(minibert_cuda_sources)
  if(MINIBERT_CUDA STREQUAL simt)
    set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "${MINIBERT_SIMT_OPTIONS}"
                                SKIP_PRECOMPILE_HEADERS ON)
  else()
    set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS "${MINIBERT_CUDA_OPTIONS}")
  endif()
endfunction()

function(minibert_add_cuda target folder)
  file(GLOB_RECURSE kernels CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*.cu)
  file(GLOB host_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/cuda_*.cpp
       ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/kernels/*_cublaslt.cpp)
  list(FILTER host_sources EXCLUDE REGEX "/cuda_absent\\.cpp$")
  if(NOT kernels AND NOT host_sources)
    return()
  endif()
  minibert_cuda_sources(${kernels})
  add_library(${target}_cuda OBJECT ${kernels} ${host_sources})
  target_include_directories(${target}_cuda PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(${target}_cuda PRIVATE minibert_dependencies_core ${MINIBERT_CUDA_LIBRARIES})
  target_sources(${target} PRIVATE $<TARGET_OBJECTS:${target}_cuda>)
  # To link with alone: the other files are compiled as without CUDA, so that a compiler cache serves the presets with one object.
  foreach(library ${MINIBERT_CUDA_LIBRARIES})
    if(MINIBERT_CUDA STREQUAL simt)
      set(library $<BUILD_INTERFACE:${library}>)
    endif()
    set_property(TARGET ${target} APPEND PROPERTY INTERFACE_LINK_LIBRARIES $<LINK_ONLY:${library}>)
  endforeach()
endfunction()
