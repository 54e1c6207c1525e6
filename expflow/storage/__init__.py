"""Results at an address: a local working folder in front of an object store, and the driver's lock there.

``blob_store``       objects below an address, by fsspec, tried again where a try may help
``folder_manifest``  the one object that says what a stored folder consists of, and which bytes
``folder_mirror``    sends what changed in a folder: new objects first, the manifest last
``folder_fetch``     makes a folder as a manifest describes it, every byte verified
``driver_claim``     the lock: a row of epochs, each an object that only one driver can make
``leftovers``        removes what killed processes left behind in the store
``results``          the results of one experiment at an address, as the commands use them
``trial_folder``     a trial's folder, sent beside its training by the process that trains it
"""
