"""What the keys of the configuration that guard and save a training may be, beyond their types."""

from omegaconf import DictConfig, OmegaConf

from ssd.errors import UserError

NON_FINITE = ("stop", "skip")
ON_HUNG = ("save", "wait")
ANYWHERE = ("0.0.0.0", "::", "")  # every address of a machine
REPLACE, WAIT = "replace", "wait"  # of loader.on_hung


def check_training(cfg: DictConfig) -> None:
    """Errors: UserError naming the key."""
    for key in ("checkpoint.keep.last", "checkpoint.keep.every", "checkpoint.every_steps", "guard.patience",
                "guard.explode.steps", "deploy.request_pixels"):  # fmt: skip
        if (value := OmegaConf.select(cfg, key)) is not None and value < 1:
            raise UserError(f"{key}={value}: must be at least 1")
    if cfg.check is not None:
        for key in ("check.overfit", "check.steps", "check.measure_every"):
            if (value := OmegaConf.select(cfg, key)) is not None and (type(value) is not int or value < 1):
                raise UserError(f"{key}={value}: must be a number of at least 1")
    for key in ("checkpoint.every_minutes", "max_hours"):
        if (value := OmegaConf.select(cfg, key)) is not None and value <= 0:
            raise UserError(f"{key}={value}: must be more than 0, or null")
    cluster = cfg.cluster
    if cluster.name != "none" and cfg.job.name != "train":
        raise UserError(f"cluster={cluster.name}: only job=train has several workers, job={cfg.job.name} has not")
    for key, least in (("cluster.workers", 1), ("cluster.servers", 0 if cluster.name == "none" else 1)):
        if (value := OmegaConf.select(cfg, key)) is not None and value < least:
            raise UserError(f"{key}={value}: must be at least {least}")
    _check_cluster(cluster)
    if cfg.guard.non_finite not in NON_FINITE:
        raise UserError(f"guard.non_finite={cfg.guard.non_finite}: choose {' or '.join(NON_FINITE)}")
    explode = cfg.guard.explode
    if explode.factor is not None and explode.factor <= 1:
        raise UserError(f"guard.explode.factor={explode.factor}: must be more than 1, or null")
    if explode.steps > explode.window:
        raise UserError(f"guard.explode.steps={explode.steps}: must be at most guard.explode.window={explode.window}")


def _check_cluster(cluster: DictConfig) -> None:
    """Errors: UserError naming the key."""
    if cluster.name != "none" and not (cluster.patience_s or 0) > 0:
        raise UserError(f"cluster.patience_s={cluster.patience_s}: must be more than 0")
    if cluster.name != "none" and cluster.on_hung not in ON_HUNG:
        raise UserError(f"cluster.on_hung={cluster.on_hung}: choose {' or '.join(ON_HUNG)}")
    if cluster.address is not None and cluster.name in ("none", "local"):
        raise UserError(f"cluster.address={cluster.address}: cluster={cluster.name} needs none, nobody reaches it from "
                        "elsewhere; cluster=ssh and cluster=slurm listen on it")  # fmt: skip
    if cluster.address in ANYWHERE:
        raise UserError(f"cluster.address={cluster.address}: is no address that others can reach; name one of this "
                        "machine's")  # fmt: skip
    if cluster.name == "slurm" and cluster.folder is None:
        raise UserError("cluster.folder=null: name a folder that all tasks share, for the key of the run")


def check_loader(loader: DictConfig) -> None:
    """Errors: UserError naming the key."""
    own = loader.name == "fast"
    if loader.prefetch < 1:
        raise UserError(f"loader.prefetch={loader.prefetch}: must be at least 1")
    least = 0 if own else 1
    if loader.workers is not None and loader.workers < least:
        raise UserError(f"loader.workers={loader.workers}: must be at least {least}, or null for the cores")
    for key in ("patience_s", "on_hung"):
        if not own and loader[key] is not None:
            raise UserError(f"loader.{key}={loader[key]}: MXNet's iterator cannot be replaced; use loader=fast")
    if loader.patience_s is not None and not 0 < loader.patience_s < float("inf"):
        raise UserError(f"loader.patience_s={loader.patience_s}: must be more than 0, or null")
    if own and loader.on_hung not in (REPLACE, WAIT):
        raise UserError(f"loader.on_hung={loader.on_hung}: choose {REPLACE} or {WAIT}")
