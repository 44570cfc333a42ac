"""`make stress` goes on where it stopped."""

from pathlib import Path

import pytest

from tests.stress_memory import StressMemory, fingerprint

pytest_plugins = ["pytester"]

CODE = "0" * 64


def run(pytester: pytest.Pytester, code: str = CODE) -> pytest.HookRecorder:
    memory = StressMemory(pytester.path / ".stress", code)
    return pytester.inline_run("-p", "no:cacheprovider", "-p", "no:asyncio", plugins=[memory])


@pytest.fixture
def two_tests(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(
        """
        from pathlib import Path

        def test_good():
            with Path("runs.txt").open("a") as file:
                file.write("good ")

        def test_mended_later():
            assert Path("mended").exists()
        """
    )
    return pytester


def test_what_passed_is_not_run_again_and_what_failed_is(two_tests: pytest.Pytester) -> None:
    run(two_tests).assertoutcome(passed=1, failed=1)
    (two_tests.path / "mended").touch()
    run(two_tests).assertoutcome(passed=1)
    assert (two_tests.path / "runs.txt").read_text() == "good "


def test_a_run_with_nothing_left_to_do_succeeds(two_tests: pytest.Pytester) -> None:
    (two_tests.path / "mended").touch()
    run(two_tests)
    assert run(two_tests).ret == pytest.ExitCode.OK
    assert (two_tests.path / "runs.txt").read_text() == "good "


def test_other_code_is_tested_from_the_start(two_tests: pytest.Pytester) -> None:
    run(two_tests)
    run(two_tests, code="1" * 64).assertoutcome(passed=1, failed=1)
    assert (two_tests.path / "runs.txt").read_text() == "good good "


def test_a_failed_setup_or_teardown_does_not_count_as_passed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def leaking():
            yield
            raise RuntimeError("left open")

        def test_passes_but_leaks(leaking):
            pass
        """
    )
    run(pytester)
    assert run(pytester).listoutcomes()[0], "the test ran a second time"


def test_the_report_names_every_test_with_its_outcome(two_tests: pytest.Pytester) -> None:
    run(two_tests)
    run(two_tests)
    report = (two_tests.path / ".stress" / "report.md").read_text()
    assert "test_good` | 0.0 | passed before |" in report
    assert "test_mended_later` | 0.0 | failed |" in report


def test_the_fingerprint_follows_the_code_and_nothing_else(tmp_path: Path, pytester: pytest.Pytester) -> None:
    pytester.run("git", "init", "--quiet", str(tmp_path))
    (tmp_path / "code.py").write_text("answer = 42\n")
    before = fingerprint(tmp_path)
    (tmp_path / "notes.md").write_text("no code\n")
    assert fingerprint(tmp_path) == before
    (tmp_path / "code.py").write_text("answer = 43\n")
    assert fingerprint(tmp_path) != before
