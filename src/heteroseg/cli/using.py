"""Commands for handing a network on: predict, export, share, serve."""

import argparse
import socket
import sys
from ipaddress import ip_address
from pathlib import Path

from heteroseg.cli.options import Action, add_command, count, fraction, log
from heteroseg.errors import HeterosegError


def predict(args: argparse.Namespace) -> int:
    from heteroseg.inference.files import back_off_space, list_jobs, predict_files

    out = Path(args.out)
    if args.back_off is not None and args.labels:
        raise HeterosegError("--back-off answers with nodes of the tree, so it does not go with --labels; drop one")
    list_jobs(args.inputs, out)  # wrong inputs are told before the network is loaded
    from heteroseg.model.model import load

    model = load(args.model, args.device)
    backing = args.back_off is not None
    space = back_off_space(model.taxonomy, args.back_off) if backing else model.space(args.labels or "leaves")
    written = predict_files(
        model,
        args.inputs,
        out,
        space,
        args.overlay,
        lambda job, done: print(f"{job.source}: {'kept' if done else job.target}", file=sys.stderr),
        args.back_off,
    )
    print(f"{written} input{'s' * (written != 1)} in {out}, ids of label space {space.name!r}")
    return 0


def predict_many(args: argparse.Namespace) -> int:
    try:
        import fsspec  # noqa: F401
        import ray.data  # noqa: F401

        from heteroseg.inference.collection import predict_collection
    except ImportError as error:
        raise HeterosegError(
            f"heteroseg predict-many needs the package {error.name or error}; pip install 'heteroseg[ray]'"
        ) from None
    how = (args.workers, args.batch, args.device, args.address)
    result = predict_collection(args.model, args.source, args.out, args.labels or "leaves", *how, log)
    speed = f", {result['images_per_second']} a second" if result["new"] else ""
    print(f"{result['images']} images in {args.out}, {result['new']} of them new{speed}; see summary.json there")
    if result["faults"]:
        first, fault = next(iter(result["faults"].items()))
        raise HeterosegError(
            f"{len(result['faults'])} files could not be labelled, the next start tries them again; {first}: {fault}"
        )
    return 0


def export(args: argparse.Namespace) -> int:
    from heteroseg.export.export import calibration_images, choose_head, compare
    from heteroseg.export.export import export as run
    from heteroseg.model.model import load

    out = Path(args.out)
    if out.exists():
        raise HeterosegError(f"{out}: is there already; remove it or choose another --out")
    model = load(args.model)
    images = calibration_images(args.calibrate, args.images) if args.precision == "int8" and args.calibrate else []
    head = choose_head(model, args.head)
    run(model, out, args.format, args.precision, images, head)
    print(f"{out}: {args.format}, {args.precision}, {head} head; heteroseg predict {out} IMAGE --out DIR runs it")
    if args.calibrate and args.calibrate.endswith((".yaml", ".yml")):
        print(compare(model, load(out), args.calibrate, args.limit))
    return 0


def share(args: argparse.Namespace) -> int:
    from heteroseg.model.hub import parse_name

    if args.push:
        parse_name(args.push)  # a wrong name is told before the network is loaded
    from heteroseg.model.model import load

    model = load(args.model)
    if args.out:
        print(f"model and card: {model.save_pretrained(args.out, args.license)}")
    else:
        print(model.push_to_hub(args.push, args.license, private=args.private or None))
    return 0


def serve(args: argparse.Namespace) -> int:
    if len(args.models) > 2:
        raise HeterosegError(f"serve: expected one or two MODELs, found {len(args.models)}")
    try:
        import uvicorn

        from heteroseg.app.answers import Limits
        from heteroseg.app.page import build_app
    except ImportError as error:
        raise HeterosegError(
            f"heteroseg serve needs the package {error.name or error}; pip install 'heteroseg[app]'"
        ) from None
    from heteroseg.model.model import load

    loaded = [load(m, args.device) for m in args.models]
    distinct = len({model.name for model in loaded}) == len(loaded)
    models = {model.name if distinct else f"{model.name} ({i})": model for i, model in enumerate(loaded, 1)}
    limits = Limits(args.max_megapixels, args.max_megabytes, args.max_seconds, args.queue)
    app = build_app(models, limits, args.allow_host)
    with free_port(args.host, args.port) as door:
        host, port = door.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        print(f"{address}/ for people, {address}/v1/openapi.json for programs; stop it with Ctrl-C", flush=True)
        if not ip_address(host).is_loopback:
            print("heteroseg: every machine that reaches this one can use it", file=sys.stderr)
        config = uvicorn.Config(app, log_level="warning", timeout_keep_alive=15, timeout_graceful_shutdown=2)
        uvicorn.Server(config).run([door])
    return 0


def free_port(host: str, port: int) -> socket.socket:
    """A listening socket; a port in use or a wrong host raises."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise HeterosegError(
            f"--host {host} --port {port}: cannot listen there, {error.strerror or error}; choose another --port"
        ) from None


def port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 65535, found {text!r}")
    return int(text)


def positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text!r}")
    return value


def add(commands: Action) -> None:
    p = add_command(commands, "predict", predict, "label images, folders of images and videos", "model", "--device")
    p.add_argument("inputs", nargs="+", metavar="INPUT", help="image, folder or video")
    p.add_argument("--out", required=True, metavar="DIR", help="folder for label maps, overlays and JSON files")
    p.add_argument("--labels", metavar="SPACE", help="a label space of the model, or a YAML file (default: leaves)")
    nodes = "write nodes of the tree: the deepest whose probability is P or more"
    p.add_argument("--back-off", type=fraction, metavar="P", help=nodes)
    p.add_argument("--overlay", action="store_true", help="also write the image under its label colours, with a legend")

    does = "label a large collection with Ray, here or on a cluster, resumable"
    p = add_command(commands, "predict-many", predict_many, does, "model", "--device")
    p.add_argument("source", metavar="SOURCE", help="folder of images: a path, or s3://, gs://, ... (fsspec)")
    p.add_argument("--out", required=True, metavar="DEST", help="folder for label maps and manifest: a path or address")
    p.add_argument("--labels", metavar="SPACE", help="a label space of the model, or a YAML file (default: leaves)")
    p.add_argument("--workers", type=count, default=2, metavar="N", help="processes that hold the model (2)")
    p.add_argument("--batch", type=count, default=32, metavar="N", help="images that are noted as done together (32)")
    cluster = "a Ray cluster that reaches MODEL and SOURCE, as auto or ray://HOST:10001 (default: here)"
    p.add_argument("--address", metavar="CLUSTER", help=cluster)

    does = "write a model as one ONNX file or an OpenVINO pair"
    p = add_command(commands, "export", export, does, "model", "--limit")
    p.add_argument("--format", required=True, choices=["onnx", "openvino"])
    p.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "int8"])
    lazy = "lazy: the file ends at the features, logits are worked out where needed (default: where that is faster)"
    p.add_argument("--head", default="auto", choices=["auto", "dense", "lazy"], help=lazy)
    p.add_argument("--out", required=True, metavar="FILE", help="FILE.onnx, or FILE.xml (with FILE.bin beside it)")
    p.add_argument("--calibrate", metavar="DATA", help="for int8: a folder, or an EXPERIMENT, which is also scored")
    p.add_argument("--images", type=count, default=100, metavar="N", help="images to calibrate with (default: 100)")

    does = "write a model with its card (README.md) to a folder, or put it on a hub"
    p = add_command(commands, "share", share, does, "model")
    place = p.add_mutually_exclusive_group(required=True)
    place.add_argument("--out", metavar="DIR", help="a new folder")
    place.add_argument("--push", metavar="OWNER/NAME", help="a model on the hub, new or to be updated")
    p.add_argument("--license", metavar="ID", help="of the weights, as hubs write it: cc-by-nc-4.0")
    p.add_argument("--private", action="store_true", help="a new repository is private")

    p = add_command(commands, "serve", serve, "open a web page and an HTTP endpoint for one or two models", "--device")
    p.add_argument("models", nargs="+", metavar="MODEL", help="one or two, side by side: as for predict")
    p.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    name = "another name that browsers use for this server"
    p.add_argument("--allow-host", action="append", default=[], metavar="NAME", help=name)
    p.add_argument("--port", type=port, default=7860, help="0 takes a free one (default: 7860)")
    p.add_argument("--max-megapixels", type=positive, default=16.0, metavar="N", help="largest image (16)")
    p.add_argument("--max-megabytes", type=positive, default=64.0, metavar="N", help="largest upload (64)")
    p.add_argument("--max-seconds", type=positive, default=60.0, metavar="N", help="for a video, and to wait (60)")
    p.add_argument("--queue", type=count, default=8, metavar="N", help="requests that may wait, more are refused (8)")
