"""The finished models of a study on another device, in an order that finds its front early. Nothing is trained.

run.py              one `vitsearch retarget`               retargeting.py      the loop over the models
candidates.py       the models in their deployments there  state.py            what is known at one moment
transfer_model.py   costs there, from costs here           next_model.py       which model is measured next
untrained_runner.py workers that refuse to train
"""
