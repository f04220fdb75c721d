# The graph of the study: `make study PRESET=cpu`, or `snakemake --cores all --config preset=cpu`; `make help` tells the
# rest. The stages, what each reads and why it runs again stand in lib/visionclip/study/graph.py.
#
# A notebook is executed into runs/<preset>/logs, where a failed one stays with its traceback, and copied into its
# stage's folder on success. A stage is finished when its card.json is there.
import sys

from visionclip import keys
from visionclip.study import graph

try:
    study = graph.Graph(config)
except ValueError as error:
    sys.exit(str(error))

PYTHON = sys.executable
REPORT = "{PYTHON:q} -m visionclip.report --preset {study.preset:q}"


wildcard_constraints:
    point="|".join(study.points) or "none",


localrules:
    all,
    report,


# Cards and notebooks are asked for by name: reports/cpu comes with a clone, and would pass for a finished study.
rule all:
    input:
        study.index,
        study.results,


rule report:
    input:
        **study.report_inputs(),
    output:
        study.index,
    params:
        code=keys.code(keys.PACKAGE / "report" / "__main__.py"),
    shell:
        REPORT


for stage in study.stages:

    rule:
        name:
            graph.rule(stage)
        input:
            **study.inputs(stage),
        output:
            **study.outputs(stage),
        log:
            **study.logs(stage),
        params:
            stage=stage,
            **study.reasons(stage),
        priority: graph.STAGES[graph.notebook(stage)].priority
        threads: study.threads(stage, workflow.cores)
        resources:
            gpu=study.gpu(stage),
        shell:
            "{PYTHON:q} -m visionclip.study stage {study.preset:q} {params.stage} --threads {threads}"


if study.points:

    rule point:
        input:
            **study.point_inputs(),
        output:
            update(study.point("{point}")),  # its program reads it back if the same settings, images and code made it
        log:
            study.point_log("{point}"),
        params:
            plan=lambda wildcards: study.point_settings(wildcards.point),
            **study.point_reasons(),
        threads: study.threads(graph.SIZES, workflow.cores)
        resources:
            gpu=study.gpu(graph.SIZES),
        shell:
            "{PYTHON:q} -m visionclip.study point {study.preset:q} {wildcards.point} --threads {threads}"


onerror:
    shell(REPORT)
