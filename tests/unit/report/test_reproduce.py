import pytest

from prognet.report.reproduce import row_command, whole_command

ARGUMENTS = ["split-digits", "--strategies", "progressive", "finetune", "--seeds", "5", "--out", "runs/demo"]


@pytest.mark.parametrize(
    "program",
    [
        ["prognet", "run"],
        ["/somewhere/bin/prognet", "run"],
        ["/opt/lib/prognet/__main__.py", "run"],
        ["run"],
    ],
)
def test_the_command_names_the_program_and_no_folder_of_the_machine(program: list[str]) -> None:
    manifest = {"command": [*program, *ARGUMENTS]}
    assert (
        whole_command(manifest)
        == "prognet run split-digits --strategies progressive finetune --seeds 5 --out runs/demo"
    )
    assert (
        row_command(manifest, "finetune")
        == "prognet run split-digits --seeds 5 --strategies finetune --out runs/demo-finetune"
    )


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["run", "s"], "prognet run s --strategies x"),
        (["run", "s", "--strategies=a", "--out=runs/a b/"], "prognet run s --strategies x --out 'runs/a b-x'"),
        (["run", "s", "--strategies", "a", "b"], "prognet run s --strategies x"),
    ],
)
def test_one_row(command: list[str], expected: str) -> None:
    assert row_command({"command": command}, "x") == expected


def test_names_are_quoted_for_the_shell() -> None:
    assert row_command({"command": ["run", "s"]}, "a; rm -rf b") == "prognet run s --strategies 'a; rm -rf b'"


@pytest.mark.parametrize("manifest", [{}, {"command": []}, {"command": None}])
def test_without_a_command_there_is_none(manifest: dict[str, object]) -> None:
    assert whole_command(manifest) == row_command(manifest, "x") == ""


def test_a_searched_recipe_comes_with_its_file_and_other_rows_without() -> None:
    command = "prognet run digits --fine-tuning recipe.json --strategies finetune independent --out runs/a"
    manifest = {"command": command.split()}
    assert row_command(manifest, "finetune-searched") == (
        "prognet run digits --fine-tuning recipe.json --strategies finetune --out runs/a-finetune-searched"
    )
    assert row_command(manifest, "independent") == (
        "prognet run digits --strategies independent --out runs/a-independent"
    )
