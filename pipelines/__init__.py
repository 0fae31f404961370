"""Ray Train and MLflow around `mrqm`: train on a cluster, follow the run, register the model.

    from pipelines.compute.process import configure_process
    configure_process()
    from pipelines.training.driver import train
    summary = train(load_config("configs/demo.yaml"))

`mrqm` does the training and knows neither platform; this package starts it, watches it and keeps what comes of it.
"""
