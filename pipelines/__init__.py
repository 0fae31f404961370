"""Ray Train and MLflow around `mrqm`: train on a cluster, follow the run, register the model.

    from pipelines.process.configure import configure_process
    configure_process()
    from pipelines.training.driver import train
    summary = train(load_config("configs/demo.yaml"))

`mrqm` implements the training and imports neither platform; this package runs it on Ray, reports its progress and
stores its results.
"""
