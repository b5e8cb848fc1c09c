"""One destination for each clip: below the output prefix, never shared, never on top of a clip."""

from __future__ import annotations

from airflow_provider_modelslab.api.errors import StorageConfigurationError
from airflow_provider_modelslab.batch.planning.naming import KeyTemplate, Names
from airflow_provider_modelslab.batch.planning.validation import Problems
from airflow_provider_modelslab.batch.sources.clips import Clip, Clips
from airflow_provider_modelslab.storage.sidecar import sidecar_uri
from airflow_provider_modelslab.storage.uri import S3Uri, destination_problem

__all__ = ["Destinations"]


class Destinations:
    """Gives out destinations.

    :param clips: all of the batch; none of them is written over.
    :param output: the output prefix.
    :param problems: gets what is wrong.
    """

    def __init__(self, clips: Clips, output: S3Uri, problems: Problems) -> None:
        self._output = output.folder()
        self._problems = problems
        self._taken: dict[str, str] = {}
        head = f"s3://{output.bucket}/"
        self._sources = {clip.source[len(head) :] for clip in clips.clips if clip.source.startswith(head)}
        prefix = clips.prefix
        # Where results lie among the clips, the next run would take them for clips.
        self._forbidden = (
            prefix.key
            if prefix is not None
            and prefix.bucket == output.bucket
            and not (self._output.key.startswith(prefix.key) and self._output.key != prefix.key)
            else None
        )
        self._told_forbidden = False

    def take(self, clip: Clip, place: str, template: KeyTemplate, names: Names) -> S3Uri | None:
        """The destination of a clip; ``None`` when there is none, which is told."""
        try:
            if clip.destination is not None:
                destination = self._given(clip.destination.strip(), names.ext)
            else:
                destination = self._output.child(template.render(names))
            sidecar_uri(destination)  # a longer key, which would be refused when the clip is paid for
        except (ValueError, StorageConfigurationError) as error:
            self._problems.add(place, "destination", str(error))
            return None
        key = destination.key
        other = self._taken.setdefault(key, place)
        if other is not place:
            self._problems.add(
                place,
                "destination",
                f"{destination} would also get the result of {other}; make the names differ: use {{path}}, {{name}}, "
                "{seed} or {hash} in the key template",
            )
            return None
        if key in self._sources:
            self._problems.add(
                place, "destination", f"{destination} is a clip of this batch; choose another output prefix"
            )
            return None
        if self._forbidden is not None and key.startswith(self._forbidden):
            if not self._told_forbidden:
                self._told_forbidden = True
                self._problems.add(
                    place,
                    "destination",
                    f"{destination} is among the clips below s3://{destination.bucket}/{self._forbidden}, so a later "
                    "run would use results as clips; give the output its own prefix (it may be below the input prefix)",
                )
            return None
        return destination

    def _given(self, text: str, ext: str) -> S3Uri:
        """A destination that was said for one clip."""
        if (problem := destination_problem(text)) is not None:
            raise ValueError(problem)
        uri = S3Uri.parse(text) if "://" in text else self._output.child(text)
        if uri.bucket != self._output.bucket or not uri.key.startswith(self._output.key):
            raise ValueError(f"{uri} is not below the output prefix {self._output}")
        name = uri.key.rpartition("/")[2]
        if not name:
            raise ValueError(f"{uri} must have an object key")
        if name.rpartition(".")[2] != ext or not name.rpartition(".")[0]:
            raise ValueError(f"{uri} must end with .{ext}, because output_type is {ext}")
        return uri
