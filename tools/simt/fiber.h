// fiber.h: stacks that can be left and entered again: each CUDA thread that ever waits has one.
// The switch is inline and ends in a jump, not a return: all lanes of a warp leave and enter at the
// same few places, so the CPU predicts it, 3 ns, and the returns behind it; ucontext takes 1,000 for
// the sake of a system call. Called by scheduler.h. Easy to break: AddressSanitizer must be told of
// each switch, before it and after it, and a stack must be unpoisoned before it is used again.
// x86-64, System V. Test: ctest -R simt_engine_launch.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define SIMT_ASAN 1
#else
#define SIMT_ASAN 0
#endif

namespace simt {

/// 64 KB with a page below it that faults; 256 KB under AddressSanitizer, whose frames are larger.
struct Stack {
  static constexpr size_t kBytes = SIMT_ASAN ? 256 * 1024 : 64 * 1024;

  std::byte* bottom = nullptr;  // lowest usable address
  Stack* next = nullptr;        // of the pool's list
};
/// A stack from the pool, or a new one. `entry` is called at the first switch to the context
/// returned; it must not return.
void* prepare(Stack& stack, void (*entry)());
Stack& acquire_stack();
void release_stack(Stack& stack);

/// What AddressSanitizer keeps of a stack that was left, and where the host's stack lies.
struct Sanitizer {
  void* fake_stack = nullptr;
};
void leaving(Sanitizer* saved, Stack* to);
void came_back(Sanitizer* saved);
/// The first thing to call on a newly entered stack.
void stack_entered(bool from_host);

/// Stores where this stack is to go on in *from, and goes on in `to`. The compiler saves what it
/// needs, since every register is named as changed; 128 bytes below the stack's end may be in use.
[[gnu::always_inline]] inline void switch_registers(void** from, void* to) {
  asm volatile(
      "subq $128, %%rsp\n\t"
      "pushq %%rbp\n\t"
      "leaq 1f(%%rip), %%rax\n\t"
      "pushq %%rax\n\t"
      "movq %%rsp, (%0)\n\t"
      "movq %1, %%rsp\n\t"
      "popq %%rax\n\t"
      "jmp *%%rax\n"
      "1:\n\t"
      "popq %%rbp\n\t"
      "addq $128, %%rsp\n\t"
      : "+D"(from), "+S"(to)
      :
      : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0",
        "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
        "xmm12", "xmm13", "xmm14", "xmm15", "memory", "cc");
}

/// Goes on in `to`; returns when somebody switches to what it stored in *from. `stack` is the one
/// entered, null for the host's; `saved` null: this stack is left for good.
[[gnu::always_inline]] inline void switch_stack(void** from, void* to,
                                                [[maybe_unused]] Stack* stack,
                                                [[maybe_unused]] Sanitizer* saved) {
  if constexpr (SIMT_ASAN) leaving(saved, stack);
  switch_registers(from, to);
  if constexpr (SIMT_ASAN) came_back(saved);
}

}  // namespace simt
