"""Commands for handing a network on: predict, export, share, serve."""

import argparse
import os
import socket
import sys
from ipaddress import ip_address
from pathlib import Path

import heteroseg
from heteroseg.cli.options import (
    Action,
    add_command,
    count,
    fraction,
    height_width,
    log,
    number,
    option,
    several,
    with_views,
)
from heteroseg.errors import HeterosegError, counted, missing_package


def predict(args: argparse.Namespace) -> None:
    from heteroseg.inference.files import back_off_space, list_jobs, passed_over, predict_files, promised_space

    given = {"--back-off": args.back_off, "--precision": args.precision, "--labels": args.labels}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) > 1:
        first, *_, last = given
        raise HeterosegError(f"{first} answers with nodes of the tree, so it does not go with {last}; drop one")
    list_jobs(args.inputs, args.out)  # wrong inputs are told before the network is loaded
    for folder in filter(os.path.isdir, args.inputs):
        if note := passed_over(Path(folder)):
            log(note)
    model = with_views(args)
    if args.precision is not None:
        space = promised_space(model, args.precision)
    elif args.back_off is not None:
        space = back_off_space(model.taxonomy, args.back_off)
    else:
        space = model.space(args.labels or "leaves")

    def told(job, done):
        log(f"{job.source}: {'kept' if done else job.target}")

    how = args.overlay, told, args.back_off, args.as_stored, args.precision
    written = predict_files(model, args.inputs, args.out, space, *how)
    more = "" if args.overlay else "; --overlay adds pictures"
    print(f"{counted(written, 'input')} in {args.out}, ids of label space {space.name!r}{more}")


def predict_many(args: argparse.Namespace) -> None:
    try:
        import fsspec  # noqa: F401
        import ray.data  # noqa: F401

        from heteroseg.inference.collection import predict_collection
    except ImportError as error:
        raise missing_package("predict-many", error, "ray") from None
    how = (args.workers, args.batch, args.device, args.address)
    result = predict_collection(args.model, args.source, args.out, args.labels or "leaves", *how, log, args.as_stored)
    speed = f", {result['images_per_second']} a second" if result["new"] else ""
    images = counted(result["images"], "image")
    print(f"{images} in {args.out}, {result['new']} of them new{speed}; see summary.json there")
    if result["faults"]:
        first, fault = next(iter(result["faults"].items()))
        told = f"{counted(len(result['faults']), 'file')} could not be labelled, the next start tries them again"
        raise HeterosegError(f"{told}; {first}: {fault}")


def export(args: argparse.Namespace) -> None:
    from heteroseg.export.export import calibration_images, choose_head, compare
    from heteroseg.export.export import export as run
    from heteroseg.writing import require_absent

    require_absent(args.out)  # told before the network is loaded, and again by `export`
    model = heteroseg.load(args.model)
    if args.output != "logits":
        _export_answers(args, model)
        return
    images = calibration_images(args.calibrate, args.images) if args.precision == "int8" and args.calibrate else []
    head = choose_head(model, args.head)
    run(model, args.out, args.format, args.precision, images, head, args.size)
    told = f"{args.out}: {args.format}, {args.precision}, {head} head"
    print(f"{told}; heteroseg predict {args.out} IMAGE --out DIR runs it")
    if args.calibrate and args.calibrate.endswith((".yaml", ".yml")):
        print(compare(model, heteroseg.load(args.out), args.calibrate, args.limit))


def _export_answers(args: argparse.Namespace, model: "heteroseg.Model") -> None:
    from heteroseg.export.answers import export_answers

    if args.precision != "fp32" or args.head != "auto" or args.calibrate:
        raise HeterosegError(f"--output {args.output} goes with --precision fp32 alone; drop the rest, or take logits")
    space = model.space(args.labels or "leaves")
    export_answers(model, args.out, args.format, args.output, space, args.size)
    print(f"{args.out}: {args.format}, {args.output} of label space {space.name!r}, for any program with this runtime")


def share(args: argparse.Namespace) -> None:
    from heteroseg.model.hub import parse_name

    if args.push:
        parse_name(args.push)  # a wrong name is told before the network is loaded
    model = heteroseg.load(args.model)
    if args.out:
        print(f"model and card: {model.save_pretrained(args.out, args.license)}")
    else:
        print(model.push_to_hub(args.push, args.license, private=args.private or None))


def serve(args: argparse.Namespace) -> None:
    if len(args.models) > 2:
        raise HeterosegError(f"serve: expected one or two MODELs, found {len(args.models)}")
    try:
        from heteroseg.app.bounds import Limits, return_freed_memory
        from heteroseg.app.connections import serve_on
        from heteroseg.app.page import build_app
        from heteroseg.model.promise import least_of
    except ImportError as error:
        raise missing_package("serve", error, "app") from None
    return_freed_memory()
    loaded = [with_views(args, name) for name in args.models]
    for model in loaded if args.precision else ():
        least_of(model, args.precision)
    distinct = len({model.name for model in loaded}) == len(loaded)
    models = {model.name if distinct else f"{model.name} ({i})": model for i, model in enumerate(loaded, 1)}
    limits = Limits(args.max_megapixels, args.max_megabytes, args.max_seconds, args.queue)
    app = build_app(models, limits, args.allow_host, args.root_path.rstrip("/"), args.precision)
    with free_port(args.host, args.port) as door:
        host, port = door.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        print(f"{address}/ for people, {address}/v1/openapi.json for programs; stop it with Ctrl-C", flush=True)
        if not ip_address(host).is_loopback:
            log("heteroseg: every machine that reaches this one can use it")
        serve_on(door, app, limits)


def free_port(host: str, port: int) -> socket.socket:
    """A listening socket; a port in use or a wrong host raises."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = f"cannot listen there, {error.strerror or error}; choose another --port"
        raise HeterosegError(f"--host {host} --port {port}: {reason}") from None


PORT = number(int, 0, 65535, "a whole number from 0 to 65535")
ABOVE = number(float, sys.float_info.min, 1e6, "a number above 0, to 1000000")


def add(commands: Action) -> None:
    does = "label images, folders of images and videos"
    p = add_command(commands, "predict", predict, does, "model", "--labels", "--device", "--tta")
    option(p, "inputs", "INPUT", "image, folder or video", nargs="+")
    out = Path("predictions")
    option(p, "--out", "DIR", f"folder for label maps, overlays and JSON files (default: {out})", Path, default=out)
    option(p, "--back-off", "P", "write nodes of the tree: the deepest whose probability is P or more", fraction)
    option(p, "--precision", "P", "write nodes of the tree: the deepest that is right at least this often", fraction)
    stored = "do not turn images as their EXIF orientation says"
    p.add_argument("--as-stored", action="store_true", help=stored)
    p.add_argument("--overlay", action="store_true", help="also write the image under its label colours, with a legend")

    does = "label a large collection with Ray, here or on a cluster, resumable"
    p = add_command(commands, "predict-many", predict_many, does, "model", "--labels", "--device")
    option(p, "source", "SOURCE", "folder of images: a path, or s3://, gs://, ... (fsspec)")
    option(p, "--out", "DEST", "folder for label maps and manifest: a path or address", required=True)
    option(p, "--workers", "N", "processes that hold the model (2)", several, default=2)
    option(p, "--batch", "N", "images that are noted as done together (32)", count, default=32)
    p.add_argument("--as-stored", action="store_true", help=stored)
    option(p, "--address", "CLUSTER", "Ray cluster that reaches MODEL and SOURCE: auto or ray://HOST:10001 (here)")

    does = "write a model as one ONNX file or an OpenVINO pair"
    p = add_command(commands, "export", export, does, "model", "--limit", "--labels")
    p.add_argument("--format", required=True, choices=["onnx", "openvino"], help="which runtime the file is for")
    kinds, does = ["fp32", "bf16", "int8"], "numbers of the weights; int8 is the smallest (default: fp32)"
    p.add_argument("--precision", default="fp32", choices=kinds, help=does)
    lazy = "lazy: the file ends at the features, logits are worked out where needed (default: where that is faster)"
    p.add_argument("--head", default="auto", choices=["auto", "dense", "lazy"], help=lazy)
    does = "of all images, for networks that go for one size alone (default: any size)"
    option(p, "--size", "HxW", does, height_width)
    option(p, "--out", "FILE", "FILE.onnx, or FILE.xml (with FILE.bin beside it)", Path, required=True)
    ends = "what the graph ends in; labels and probabilities are for programs without heteroseg (default: logits)"
    p.add_argument("--output", default="logits", choices=["logits", "labels", "probabilities"], help=ends)
    option(p, "--calibrate", "DATA", "for int8: a folder, or an EXPERIMENT, which is also scored")
    option(p, "--images", "N", "images to calibrate with (default: 100)", count, default=100)

    does = "write a model with its card (README.md) to a folder, or put it on a hub"
    p = add_command(commands, "share", share, does, "model")
    place = p.add_mutually_exclusive_group(required=True)
    option(place, "--out", "DIR", "a new folder")
    option(place, "--push", "OWNER/NAME", "a model on the hub, new or to be updated")
    option(p, "--license", "ID", "of the weights, as hubs write it: cc-by-nc-4.0")
    p.add_argument("--private", action="store_true", help="a new repository is private")

    does = "open a web page and an HTTP endpoint for one or two models"
    p = add_command(commands, "serve", serve, does, "--device", "--tta")
    option(p, "models", "MODEL", "one or two, side by side: as for predict", nargs="+")
    does = "answers of the tree are the deepest that are right at least this often, where a request says nothing else"
    option(p, "--precision", "P", does, fraction, default=0.0)
    p.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    option(p, "--allow-host", "NAME", "another name that browsers use for this server", action="append", default=[])
    option(p, "--root-path", "PATH", "path of a proxy below which the page is found: /roads", default="")
    option(p, "--port", "N", "0 takes a free one (default: 7860)", PORT, default=7860)
    option(p, "--max-megapixels", "N", "largest image and frame (3)", ABOVE, default=3.0)
    option(p, "--max-megabytes", "N", "largest upload (64)", ABOVE, default=64.0)
    option(p, "--max-seconds", "N", "for each of sending, waiting and work (60)", ABOVE, default=60.0)
    option(p, "--queue", "N", "requests that may wait, more are refused (8)", count, default=8)
