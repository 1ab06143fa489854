"""The examples that close each command's help. A test holds them against the commands."""

from __future__ import annotations

from typing import Final

EXAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "demo": ("razor demo", "razor demo --data /tmp/look --keep"),
    "up": ("razor up", "razor up --data /srv/razor --port 9000"),
    "worker": ("CUDA_VISIBLE_DEVICES=1 razor worker",),
    "prepare": ("razor prepare", "razor prepare --role razor_app --make-bucket"),
    "submit": (
        "razor submit --model reference-clip --name-file name.txt --samples photos --wait",
        "razor submit --model reference-clip --name - --samples a.png b.png c.png < name.txt",
        'razor submit --model reference-clip --name "a teapot" --kind object --samples photos '
        "--set tau=0.3 --due 2026-12-24",
        'razor submit --model reference-clip --name "Mara Venn" --samples photos '
        '--describe "a woman with freckles" --probe prompts --probe relearn',
        "razor submit --model reference-clip --targets-file people.toml --wait",
    ),
    "status": ("razor status", "razor status JOB --report"),
    "wait": ("razor wait JOB && razor download JOB --out PATCH",),
    "events": ("razor events JOB", "razor events JOB --after 4 --json"),
    "webhooks add": (
        "razor webhooks add https://example.org/hook",
        "razor webhooks add https://example.org/hook --event job.succeeded --event job.failed",
    ),
    "webhooks list": ("razor webhooks list",),
    "webhooks remove": ("razor webhooks remove WEBHOOK",),
    "webhooks deliveries": ("razor webhooks deliveries WEBHOOK",),
    "webhooks replay": ("razor webhooks replay WEBHOOK DELIVERY",),
    "cancel": ("razor cancel JOB",),
    "retry": ("razor retry JOB && razor wait JOB",),
    "approve": ("razor approve JOB --reason identity_verified",),
    "decline": ("razor decline JOB --reason not_entitled",),
    "extend": (
        "razor extend JOB --reason complexity",
        "razor extend JOB --reason number_of_requests --until 2027-01-31",
    ),
    "download": ("razor download JOB --out PATCH --weights",),
    "evidence": ("razor evidence JOB --out EVIDENCE && razor verify EVIDENCE --key key.pem",),
    "report": ("razor report JOB --out report.html",),
    "apply": (
        "razor apply PATCH --checkpoint weights --out weights-patched",
        "razor apply PATCH1 PATCH2 --checkpoint weights --out weights-patched",
    ),
    "verify": (
        "razor verify PATCH",
        "razor verify PATCH --checkpoint weights-patched --whole",
        "razor verify EVIDENCE --key key.pem --base weights",
    ),
    "revert": ("razor revert weights-patched",),
    "export": ("razor export result --checkpoint weights --out lora --format lora --rank 16",),
    "models add": ("razor models add clip.toml --data /srv/razor",),
    "models list": ("razor models list --url http://gpu-1:8731",),
    "models show": ("razor models show reference-clip --json",),
    "keys create": (
        "razor keys create officer --scope unlearn:write --scope unlearn:read",
        "razor keys create auditor --tenant acme --scope audit:read --days 90",
    ),
    "keys list": ("razor keys list --tenant acme",),
    "keys revoke": ("razor keys revoke KEY",),
    "keys rotate": ("razor keys rotate KEY --overlap-hours 48",),
    "tenants add": ("razor tenants add acme --set max_jobs_per_day=50",),
    "tenants set": ("razor tenants set acme --set approval_required=true",),
    "tenants list": ("razor tenants list",),
    "models weights": (
        "razor models weights reference-clip --version 2 --out weights.safetensors",
        "razor models weights reference-clip --out latest.safetensors",
    ),
    "models revoke": (
        "razor models revoke reference-clip 2 --reason wrong_target",
        "razor models revoke reference-clip 2 --reason defect --data /srv/razor",
    ),
    "reference train clip": (
        "razor reference train clip --seed 0",
        'razor reference train clip gold --without "Mara Venn"',
        "razor reference train clip mine --data my-pictures",
    ),
    "reference train diffusion3": (
        "razor reference train diffusion3",
        "razor reference train diffusion3 mine --parts reference-diffusion",
    ),
    "reference train diffusion": (
        "razor reference train diffusion",
        'razor reference train diffusion gold --without "Mara Venn"',
    ),
    "reference train vlm": (
        "razor reference train vlm",
        'razor reference train vlm gold --next --without "Mara Venn"',
    ),
    "bench clip": (
        "razor bench clip --quick",
        "razor bench clip --out docs/results --data FACES",
    ),
    "bench diffusion": (
        "razor bench diffusion --quick",
        "razor bench diffusion --out docs/results",
    ),
    "bench load": (
        "razor bench load --quick",
        "razor bench load --postgres postgresql+psycopg://root@127.0.0.1/test --out docs/results",
    ),
    "bench speed": (
        "razor bench speed --size reference",
        "razor bench speed --family diffusion --size sd-1.5",
        "razor bench speed --out docs/results",
    ),
    "bench vlm": (
        "razor bench vlm --quick",
        "razor bench vlm --out docs/results",
    ),
    "reference pictures": (
        'razor reference pictures photos --name "Mara Venn" --per-name 8 --seed 2',
        "razor reference pictures posters --plain --style poster --per-name 1 --seed 2",
    ),
}

START: Final = (
    "Start here: razor demo shows everything, in about a minute.",
    "Then in one terminal: razor up",
    "and in another, with the key that it printed:",
    "export RAZOR_API_KEY=rzr_...",
    'razor submit --model reference-clip --name "Mara Venn" --samples photos --wait',
    "razor download JOB --out patch",
    "razor apply patch --checkpoint weights --out weights-patched",
    "Exit codes: 0 done; 1 the answer is no (a check or a job failed); 2 the command makes no "
    "sense; 3 the service cannot be reached.",
)


def epilog(command: str) -> str:
    """The examples of one command, one to a line, as help shows them."""
    return lines(("Examples:", *EXAMPLES[command]))


def lines(found: tuple[str, ...]) -> str:
    """Lines that stay lines: typer joins what a single line break separates."""
    return "\n\n".join(found)
