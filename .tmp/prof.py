import time,sys; import numpy as np, torch
torch.set_num_threads(1)
from lib.patients.scanner import second, orbit, scatter, detector, spectrum
from dataclasses import replace
from lib.images.volume import Volume
orbit.load()
def wrap(o,n):
    f=getattr(o,n)
    def g(*a,**k):
        t=time.process_time(); r=f(*a,**k); print('   ',n,round(time.process_time()-t,2)); return r
    setattr(o,n,g)
for o,n in ((orbit.Orbit,'project'),(orbit.Orbit,'reconstruct'),(scatter.Scatter,'field'),(scatter.Scatter,'correct'),(detector.Panel,'read'),(spectrum.Beam,'transmit'),(spectrum.Beam,'correct_water'),(second,'crop'),(spectrum,'materials')): wrap(o,n)
sp=2.0
z,y,x=np.meshgrid(np.arange(150)*sp-150,np.arange(140)*sp-140,np.arange(220)*sp-220,indexing='ij')
a=np.where((x/190)**2+(y/120)**2<1,0.,-1000.); a[(x**2+(y-60)**2<20**2)]=400
v=Volume(torch.tensor(a,dtype=torch.float32),sp,[-220,-140,-150])
for f in ((1.,0,0),(0,1.,0)):
    s=replace(second.TEST,fans=f,breathing=0.)
    t=time.process_time(); out=second.simulate(v,[0,0,0],np.random.default_rng(0),s); print(f,time.process_time()-t,out.size)
