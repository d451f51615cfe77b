#!/usr/bin/env python3
"""tools/check_machine_code reads loops, registers and accesses of hand-written listings, and finds each fault. Run by ctest."""
import importlib.machinery
import importlib.util
import pathlib
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
loader = importlib.machinery.SourceFileLoader("check_machine_code", str(ROOT / "tools/check_machine_code"))
checker = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
loader.exec_module(checker)

# A round has a whole tile's copy (.L_full), a guarded one in its place, or none; around it is a loop over tiles.
LOOP = """
.text.kernel:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_0:
        /*0010*/                   IADD3 R2, R2, 0x1, RZ ;
        /*0020*/                   LDSM.16.M88.4 R4, [R2] ;
.L_x_1:
        /*0030*/                   HMMA.16816.F32.BF16 R4, R36.reuse, R40, R4 ;
        /*0040*/               @P0 BRA `(.L_x_2) ;
        /*0050*/              @!P1 BRA `(.L_x_3) ;
        /*0060*/                   ISETP.GE.AND P5, PT, R77, R94.reuse, PT ;
        /*0070*/                   ISETP.GE.AND P4, PT, R89, R94.reuse, PT ;
        /*0080*/                   LDGSTS.E.BYPASS.LTC128B.128 [R97], [R104.64], !P5 ;
        /*0090*/                   BRA `(.L_x_3) ;
.L_x_2:
        /*00a0*/                   LDGSTS.E.BYPASS.LTC128B.128 [R97], [R104.64] ;
.L_x_3:
        /*00b0*/                   LDSM.16.M88.4 R8, [R2+UR4] ;
        /*00c0*/                   HMMA.16816.F32.BF16 R8, R36.reuse, R42, R8 ;
        /*00d0*/               @P0 BRA `(.L_x_1) ;
        /*00e0*/                   STG.E.128 [R6.64], R8 ;
        /*00f0*/              @!P2 BRA `(.L_x_0) ;
        /*0100*/                   EXIT ;
.L_x_4:
        /*0110*/                   BRA `(.L_x_4) ;
"""


def parsed(listing, registers=100, stack=0, name="kernel", local=0):
    usage = f" Function kernel:\n  REG:{registers} STACK:{stack} SHARED:0 LOCAL:{local} CONSTANT[0]:528\n"
    (function,) = checker.parse(listing, usage, "sm_80")
    return function._replace(name=name)


GEMM = "gemm_mma_kernel<__nv_bfloat16, GemmTile<64, 64, 32, 32, 4, 4>, true, true>"


class Reads(unittest.TestCase):
    def test_a_round_is_the_full_tiles_shortest_way(self):
        # HMMA, branch, LDGSTS, LDSM, HMMA, branch: not the guarded copy, and not the way without one.
        self.assertEqual(checker.tensor_rounds(parsed(LOOP)), [checker.Round(hmma=2, ldgsts=1, ldsm=1, others=2)])

    def test_copies_may_stand_in_a_loop_around(self):
        moved = LOOP.replace("LDGSTS", "FADD").replace("STG.E.128 [R6.64], R8", "LDGSTS.E.BYPASS.LTC128B.128 [R97], [R104.64]")
        (round,) = checker.tensor_rounds(parsed(moved))
        self.assertEqual((round.ldgsts, round.around), (0, 1))

    def test_ways_through_conditional_branches(self):
        for branch, ways in (("BRA `(.L_x_1)", 1), ("@P0 BRA `(.L_x_1)", 2), ("BRA UP0, `(.L_x_1)", 2),
                             ("BRA.CONV ~URZ, `(.L_x_1)", 2),
                             ("BRA.DIV ~URZ, `(.L_x_1)", 2), ("@P0 CALL.REL.NOINC `(.L_x_1)", 2), ("EXIT", 0),
                             ("@P0 EXIT", 1), ("BSYNC B0", 1)):
            code = f".text.kernel:\n /*0000*/ {branch} ;\n.L_x_0:\n /*0010*/ NOP ;\n.L_x_1:\n /*0020*/ EXIT ;\n"
            self.assertEqual(len(checker.blocks_of(parsed(code))[1][0]), ways, branch)

    def test_a_tiles_round_passes_inner_loops_as_often_as_they_run(self):
        # Of the outer loop: IADD3, LDSM, STG, a branch. Of the inner: HMMA, branch, LDGSTS, LDSM, HMMA, branch.
        round = checker.Round(hmma=6, ldgsts=3, ldsm=4, others=9)
        self.assertEqual(checker.tile_round(parsed(LOOP), 6, {2: 3}), round)
        self.assertIsNone(checker.tile_round(parsed(LOOP), 6))

    def test_a_tiles_round_is_the_shortest_loops(self):
        self.assertEqual(checker.tile_round(parsed(LOOP), 2), checker.Round(hmma=2, ldgsts=1, ldsm=1, others=2))

    def test_a_tiles_round_has_as_many_tensor_instructions_as_said(self):
        fewer = LOOP.replace("LDSM.16.M88.4 R8, [R2+UR4]", "BRA UP0, `(.L_x_5)").replace("@P0 BRA `(.L_x_1)", "NOP").replace(
            "/*00d0*/", "/*00d0*/ NOP ;\n.L_x_5:\n        /*00d8*/ @P0 BRA `(.L_x_1) ;\n        /*00dc*/")
        self.assertEqual([r.hmma for r in checker.tensor_rounds(parsed(fewer))], [2])
        self.assertEqual([checker.tile_round(parsed(fewer), n) is None for n in (0, 1, 2, 3)], [True, False, False, True])

    def test_a_round_goes_where_most_of_an_instruction_are(self):
        guarded = checker.tile_round(parsed(LOOP), 2, most="ISETP")
        self.assertEqual(guarded, checker.Round(hmma=2, ldgsts=1, ldsm=1, others=6))  # two ISETP and two branches more

    def test_code_without_a_loop_has_no_round(self):
        straight = "\n".join(line for line in LOOP.splitlines() if "BRA" not in line)
        self.assertEqual(checker.tensor_rounds(parsed(straight)), [])

    def test_names_are_those_of_the_source(self):
        name = "void minibert::(anonymous namespace)::cast_packs<2, float, __half>(float const*, __half*, long, bool)"
        self.assertEqual(checker.plain(name), "cast_packs<2, float, __half>")

    def test_budgets_fill_a_multiprocessor(self):
        for threads, blocks, registers in ((128, 4, 128), (256, 1, 255), (128, 2, 255), (128, 3, 168), (256, 4, 64), (1024, 1, 64)):
            self.assertEqual(checker.budget(checker.Rule("", threads, blocks)), registers)


class Finds(unittest.TestCase):
    def faults(self, listing=LOOP, **changes):
        return " ".join(checker.faults_of(parsed(listing, **{"name": GEMM, **changes})))

    def test_nothing_in_good_code(self):
        self.assertEqual(self.faults(), "")

    def test_too_many_registers(self):
        self.assertEqual(self.faults(registers=128), "")
        self.assertIn("has 129 registers, at most 128 let 4 blocks of 128 threads", self.faults(registers=129))

    def test_spills(self):
        self.assertIn("uses local memory: 16 bytes", self.faults(stack=16))
        self.assertIn("uses local memory: 8 bytes", self.faults(local=8))
        spilled = LOOP.replace("MOV R1, c[0x0][0x28]", "STL [R1+0x4], R5")
        self.assertIn("0 loads, 1 stores", self.faults(spilled))

    def test_a_main_loop_without_its_instructions(self):
        for wanted in ("HMMA", "LDSM", "LDGSTS"):
            lines = [line.replace(wanted, "FFMA") for line in LOOP.splitlines()]
            self.assertIn(f"has no {wanted} in its main loop", self.faults("\n".join(lines)))

    def test_copies_that_stand_outside_of_the_loop(self):
        self.assertIn("has no LDGSTS", self.faults(LOOP.replace("LDGSTS", "LDS").replace("MOV R1,", "LDGSTS R1,")))

    def test_narrow_accesses(self):
        code = ".text.kernel:\n        /*0000*/                   LDG.E.128 R4, [R2.64] ;\n" \
               "        /*0010*/                   STG.E.128 [R6.64], R4 ;\n        /*0020*/                   EXIT ;\n"
        name = "backward_in_registers<3, __nv_bfloat16>"
        self.assertEqual(self.faults(code, name=name), "")
        self.assertIn("16-byte loads: True, stores: False", self.faults(code.replace("STG.E.128", "STG.E.64"), name=name))
        self.assertIn("16-byte loads: False, stores: True", self.faults(code.replace("LDG.E.128", "LDG.E"), name=name))

    def test_a_kernel_that_no_rule_knows(self):
        self.assertIn("is not in the table", self.faults(name="new_kernel<float>"))


if __name__ == "__main__":
    unittest.main()
